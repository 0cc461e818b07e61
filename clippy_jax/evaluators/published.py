"""Published numbers to hold up beside ours, in percent.

The paper: Ranasinghe et al., ICCV 2023. The notebook: the public code's evaluation of its released checkpoint, under
mixed precision; its VOC number is of protocol `public` on the split `train`.
"""

# (who, top-1, top-5) on ImageNet's validation set
IMAGENET = (
    ("public notebook, clippy_5k.pt", 44.976, 72.826),
    ("paper, CC-12M", 45.3, None),
    ("paper, HQITP-134M", 60.3, None),
    ("paper, its CLIP baseline, CC-12M", 46.0, None),
)

# (who, mIoU) on PASCAL VOC 2012
VOC = (
    ("public notebook, clippy_5k.pt (protocol public, train)", 42.107),
    ("paper, CC-12M", 50.8),
    ("paper, HQITP-134M", 52.2),
    ("paper, its CLIP baseline, CC-12M", 17.5),
)
