"""Metrics: how close a translated volume is to a reference, and masks in which they are computed."""

from medcyclegan.metrics.distributions import frechet_distance, histogram_distance, mmd, sliced_wasserstein
from medcyclegan.metrics.flicker import flicker_index, slice_roughness
from medcyclegan.metrics.image_metrics import mae, mean_error, ms_ssim, ncc, psnr, ssim
from medcyclegan.metrics.masks import erode_mm, head_mask
from medcyclegan.metrics.tissue_means import InputToHu, TissueMeans, means_of_pairs, means_of_shares
from medcyclegan.metrics.tissues import TISSUES_HU, mae_by_tissue

__all__ = [
    "TISSUES_HU",
    "InputToHu",
    "TissueMeans",
    "erode_mm",
    "flicker_index",
    "frechet_distance",
    "head_mask",
    "histogram_distance",
    "mae",
    "mae_by_tissue",
    "mean_error",
    "means_of_pairs",
    "means_of_shares",
    "mmd",
    "ms_ssim",
    "ncc",
    "psnr",
    "slice_roughness",
    "sliced_wasserstein",
    "ssim",
]
