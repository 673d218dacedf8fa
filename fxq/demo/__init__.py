"""Two small networks on images of digits: enough to see what int8 costs and gains, in under a minute and without a download."""
