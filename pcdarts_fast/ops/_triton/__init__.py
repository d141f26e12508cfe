"""What the Triton kernels of all operators share: launching, and small functions for the device."""
