"""Metrics: how close a translated volume is to a reference, and where to look."""

from medcyclegan.metrics.image_metrics import mae, mean_error, ms_ssim, ncc, psnr, ssim
from medcyclegan.metrics.masks import erode_mm, head_mask

__all__ = ["erode_mm", "head_mask", "mae", "mean_error", "ms_ssim", "ncc", "psnr", "ssim"]
