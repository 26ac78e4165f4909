"""Every tolerance of the suite, with its reason and the largest error measured; the same on every machine."""

# RGB in [0, 1] of the kernel against the reference. Activations, and hidden weights times scale and omega, enter tl.dot as
# float16, each off by 2^-12 relative; a layer's errors add up over the width and pass on through the depth. Measured over the
# tests' sizes: 1.9e-3 (products are summed in float32, so a GPU adds only the hardware sine's 5e-6).
KERNEL_RGB = 3e-3

# The same of the cosine kernel: the cosines of rows enter tl.dot as float16, words are float16 already. Measured: 2.3e-4.
COSINE_KERNEL_RGB = 4e-4

# RGB of the CPU backend of cosine codes, in float32: the phases of high frequencies, up to
# 31 pi, are off by 4e-6. Measured: 6.2e-6.
COSINE_TORCH_RGB = 1.2e-5

# Mean difference in 8-bit levels, over the pixels of a decode, from the formula in float64: one value in a hundred lies so near
# the edge of rounding that KERNEL_RGB takes it across. Measured with both backends: 0.007.
DECODE_MEAN_LEVELS = 0.02

# PSNR, in dB, of an 8-bit crop through the map against the same crop of the decoded image: the coordinates differ by rounding.
# Measured with the CPU backend: equal; one level in one value of an image of 90 would be 67 dB.
CROP_PSNR_DB = 60.0

# PSNR, in dB, of a scaled or turned 8-bit decode against the decoded image resampled bilinearly,
# 48x64. Measured with the CPU backend: 54.9 enlarged, 62.9 shrunk (2x2 samples), 56.0 turned.
RESAMPLED_PSNR_DB = 50.0

# PSNR, in dB, of a decode by either backend against that of the formula in float64, for images of at most 36 dB: KERNEL_RGB is
# noise far below such an error. Measured: 0.020 with the kernel at 35 dB, 0.000 with the CPU backend.
DECODE_PSNR_DB = 0.05

# Rows and PSNR after 30 steps of Adam from starts that differ by rounding alone (1e-6 relative), as sums in another order do on a
# GPU: the differences grow from step to step. Measured on a CPU: 2.3e-5 and 0.0013 dB.
REFIT_ROWS = 2e-4
REFIT_PSNR_DB = 0.02

# RGB of the CPU backend with torch's sine against the reference: rounding to 6e-8, amplified by omega. Measured: 9.3e-6 at
# 10x32, 8.6e-6 below a depth of 6.
TORCH_RGB = 1.2e-5

# The same with its own sine, which is off by 1e-5: errors pass on through the depth. Measured: 2.8e-5 at 3x16,
# 6.9e-5 at 12x64; a step of 8 bits is 4e-3.
FAST_TORCH_RGB = 1e-4

# RGB of the reference in float64, written as float32, against the formula in plain Python: half an ulp of 1 is 3.0e-8.
# Measured: 3.0e-8.
FORMULA_RGB = 4e-8

# accurate_sin for |x| <= 10,000 against float64; half an ulp of 1 is 3.0e-8. Measured: 1.21e-7.
ACCURATE_SIN = 1.5e-7

# A bilinear warp to whole pixels, of values up to 4, against the gather of the same pixels: coordinates in float32 put the
# sample up to 1e-6 of a pixel off. Measured: 5.3e-6.
WARP_WHOLE_PIXELS = 2e-5

# Weights after four steps on two processes against one: their gradients are sums in another order. Measured: 1.5e-8.
TWO_PROCESSES = 1e-6

# Losses and weights of four steps that are replayed as a CUDA graph against steps whose kernels are launched one by one, by
# whether they compute in bfloat16: the same kernels, but sums of atomic additions have no order. Kept on an H200; the
# differences themselves were not recorded.
REPLAYED_LOSS = {False: 1e-3, True: 5e-2}
REPLAYED_WEIGHTS = {False: 1e-3, True: 1e-2}

# Gradient of the fused fit against float64, over its norm: operands are float16, whose products add up to about 1e-3. Measured,
# over depths of 1 to 5 and widths of 7 to 32: 1.1e-3; through a rounding, of rows and scales: 7.5e-4.
FIT_GRADIENT = 2e-3

# Moments of the kernel's fit against those in torch, by steps, over their norm: the roundings are the same, but a sum in another
# order may take an activation to the next float16. Measured: 2e-5 and 3e-4.
FIT_MOMENTS = {1: 2e-4, 4: 2e-3}

# Mean PSNR, in dB, of images fitted by the fused fit against those in float32: single images move by up to 1 dB either way.
# Measured through the interpreter: 0.005 (4 images, 30 steps); with the same roundings in torch, 32 of CIFAR-10: 0.03.
FUSED_PSNR_DB = 0.1
