"""Every tolerance of the suite, with its reason and the largest error measured; the same on every machine."""

# RGB in [0, 1] of the kernel against the float64 twin. Activations and float weights enter tl.dot as float16, off by 2^-12
# relative; a layer's errors add up over the width and pass on through the depth. Measured over the tests' sizes: 1.5e-3
# (products are summed in float32, so a GPU adds only the hardware sine's 5e-6).
KERNEL_RGB = 2e-3

# RGB of the float32 twin against the float64 one: rounding to 6e-8, amplified by omega. Measured: 3.6e-6.
TWIN_RGB = 1e-5

# RGB of the float64 twin, written as float32, against the formula in plain Python: half an ulp of 1 is 3.0e-8.
# Measured: 3.0e-8.
FORMULA_RGB = 4e-8

# accurate_sin for |x| <= 10,000 against float64; half an ulp of 1 is 3.0e-8. Measured: 1.21e-7.
ACCURATE_SIN = 1.5e-7
