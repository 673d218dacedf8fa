"""The kernels, one file per family: keys of code, their emission, and how an integer op becomes one."""
