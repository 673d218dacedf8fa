"""A small graph for every op that can be int8."""

from __future__ import annotations

X = "x: f32[2, 4, 6, 6] = input"

# op → graphs in which it stands between int8 ops or makes the result
EXAMPLES: dict[str, tuple[str, ...]] = {
    "conv": (
        f"{X}\ny = conv(x, @c.weight[5, 4, 3, 3], @c.bias[5], padding=(1, 1))\nz = silu(y)\noutput z",
        f"{X}\ny = conv(x, @c.weight[8, 1, 3, 3], stride=(2, 2), dilation=(2, 1), groups=4, act=relu)\nz = silu(y)\noutput z",
        f"{X}\ny = conv(x, @c.weight[5, 4, 2, 2], @c.bias[5], padding='same', act=relu6)\nz = silu(y)\noutput z",
        f"{X}\ny = conv(x, @c.weight[4, 4, 1, 1], @c.bias[4], residual=x, act=clamp(-1.0, 0.5))\nz = silu(y)\noutput z",
        f"{X}\ny = conv(x, @c.weight[5, 4, 3, 3], @c.bias[5], padding=(1, 1), padding_mode='circular')\nz = silu(y)\noutput z",
        f"{X}\ny = conv(x, @c.weight[5, 4, 3, 3], @c.bias[5])\noutput y",
        "x: f32[2, 3, 9] = input\ny = conv(x, @c.weight[4, 3, 3], @c.bias[4])\nz = silu(y)\noutput z",
        "x: f32[1, 2, 4, 5, 4] = input\ny = conv(x, @c.weight[3, 2, 2, 3, 2], @c.bias[3])\nz = silu(y)\noutput z",
        "x: f32[2, 5, 5] = input\ny = conv(x, @c.weight[3, 2, 3, 3], @c.bias[3])\nz = silu(y)\noutput z",
    ),
    "linear": (
        f"{X}\ny = linear(x, @l.weight[5, 6], @l.bias[5])\nz = silu(y)\noutput z",
        f"{X}\ny = linear(x, @l.weight[6, 6], residual=x, act=relu)\nz = silu(y)\noutput z",
        "x: f32[7] = input\ny = linear(x, @l.weight[5, 7], @l.bias[5])\nz = silu(y)\noutput z",
        "x: f32[3, 7] = input\ny = linear(x, @l.weight[5, 7], @l.bias[5], act=relu)\noutput y",
    ),
    "add": (
        f"{X}\ns = silu(x)\ny = add(x, s)\noutput y",
        f"{X}\ny = add(x, x, act=relu)\noutput y",
        f"{X}\ns = silu(x)\ny = add(x, s, alpha=-3, act=relu)\noutput y",
        f"{X}\nm = mean(x, dim=(2, 3), keepdim=True)\ny = add(x, m)\noutput y",
    ),
    "sub": (f"{X}\ns = silu(x)\ny = sub(x, s)\noutput y", f"{X}\ns = silu(x)\ny = sub(s, x, alpha=2)\noutput y"),
    "mul": (
        f"{X}\ns = silu(x)\ny = mul(x, s)\noutput y",
        f"{X}\ny = mul(x, x, act=relu)\noutput y",
        f"{X}\nm = mean(x, dim=(2, 3), keepdim=True)\ns = sigmoid(m)\ny = mul(x, s)\noutput y",
    ),
    "relu": (f"{X}\ns = silu(x)\ny = relu(s)\nz = relu(s)\noutput (s, y, z)",),
    "clamp": (f"{X}\ns = silu(x)\ny = clamp(s, min=-0.1, max=1.7)\nz = clamp(s, max=0.3)\noutput (y, z)",),
    "leaky_relu": (f"{X}\ny = leaky_relu(x, negative_slope=0.3)\noutput y",),
    "elu": (f"{X}\ny = elu(x, alpha=0.7)\noutput y",),
    "sigmoid": (f"{X}\ny = sigmoid(x)\noutput y",),
    "tanh": (f"{X}\ny = tanh(x)\noutput y",),
    "hardsigmoid": (f"{X}\ny = hardsigmoid(x)\noutput y",),
    "hardswish": (f"{X}\ny = hardswish(x)\noutput y",),
    "silu": (f"{X}\ny = silu(x)\noutput y",),
    "gelu": (f"{X}\ny = gelu(x)\noutput y", f"{X}\ny = gelu(x, approximate='tanh')\noutput y"),
    "mish": (f"{X}\ny = mish(x)\noutput y",),
    "softplus": (f"{X}\ny = softplus(x, beta=2.0, threshold=1.0)\noutput y",),
    "max_pool": (
        f"{X}\ns = silu(x)\ny = max_pool(s, kernel_size=(3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2))\noutput y",
        f"{X}\ns = silu(x)\ny = max_pool(s, kernel_size=(4, 4), stride=(3, 3), ceil_mode=True)\noutput y",
        "x: f32[2, 3, 9] = input\ns = silu(x)\ny = max_pool(s, kernel_size=(2,))\noutput y",
    ),
    "adaptive_max_pool": (f"{X}\ns = silu(x)\ny = adaptive_max_pool(s, output_size=(4, 1))\noutput y",),
    "avg_pool": (
        f"{X}\ny = avg_pool(x, kernel_size=(3, 2), stride=(2, 1), padding=(1, 0))\nz = silu(y)\noutput z",
        f"{X}\ny = avg_pool(x, kernel_size=(3, 3), padding=(1, 1), count_include_pad=False)\nz = silu(y)\noutput z",
        f"{X}\ny = avg_pool(x, kernel_size=(2, 2), divisor_override=3)\nz = silu(y)\noutput z",
        f"{X}\ny = avg_pool(x, kernel_size=(2, 2))\noutput y",
    ),
    "adaptive_avg_pool": (
        f"{X}\ny = adaptive_avg_pool(x, output_size=(1, 1))\nz = silu(y)\noutput z",
        f"{X}\ny = adaptive_avg_pool(x, output_size=(4, None))\nz = silu(y)\noutput z",
        f"{X}\ny = adaptive_avg_pool(x, output_size=(1, 1))\noutput y",
    ),
    "mean": (
        f"{X}\ny = mean(x)\nz = silu(y)\noutput z",
        f"{X}\ny = mean(x, dim=(2, -1), keepdim=True)\nz = silu(y)\noutput z",
        f"{X}\ny = mean(x, dim=1)\noutput y",
    ),
    "cat": (
        f"{X}\ns = silu(x)\ny = cat((x, s), dim=-3)\nz = silu(y)\noutput z",
        f"{X}\ns = sigmoid(x)\ny = cat((x, s, x), dim=0)\nz = silu(y)\noutput z",
    ),
    "pad": (
        f"{X}\ny = pad(x, pad=(1, 2, 0, 1))\nz = silu(y)\noutput z",
        f"{X}\ny = pad(x, pad=(1, 2, 3, 1), mode='reflect')\nz = silu(y)\noutput z",
        f"{X}\ny = pad(x, pad=(1, 2, 3, 1), mode='replicate')\nz = silu(y)\noutput z",
        f"{X}\ny = pad(x, pad=(-1, 2))\nz = silu(y)\noutput z",
    ),
    "flatten": (f"{X}\ny = flatten(x, start_dim=1)\nz = silu(y)\noutput z",),
    "reshape": (f"{X}\ny = reshape(x, shape=(2, -1, 6))\nz = silu(y)\noutput z",),
    "permute": (f"{X}\ny = permute(x, dims=(0, 2, 3, 1))\nz = silu(y)\noutput z",),
    "transpose": (f"{X}\ny = transpose(x, dim0=1, dim1=-1)\nz = silu(y)\noutput z",),
    "squeeze": ("x: f32[2, 1, 3] = input\ny = squeeze(x, dim=1)\nz = silu(y)\noutput z",),
    "unsqueeze": (f"{X}\ny = unsqueeze(x, dim=1)\nz = silu(y)\noutput z",),
    "contiguous": (f"{X}\nt = transpose(x, dim0=1, dim1=2)\ny = contiguous(t)\nz = silu(y)\noutput z",),
    "getitem": (f"{X}\ny = getitem(x, index=(slice(None, None, None), slice(1, 3, None), 0))\nz = silu(y)\noutput z",),
    "identity": (f"{X}\ny = identity(x)\nz = silu(y)\noutput z",),
    "dropout": (f"{X}\ny = dropout(x, training=False)\nz = silu(y)\noutput z",),
}
