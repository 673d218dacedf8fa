"""Two small networks on images of digits: enough to see what int8 costs and gains, in a minute or two and without a download."""
