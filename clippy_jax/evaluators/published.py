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

# (who, top-1, top-5) on ImageNet-v2
IMAGENET_V2 = (
    ("paper, CC-12M", 40.0, None),
    ("paper, HQITP-134M", 54.8, None),
    ("paper, its CLIP baseline, CC-12M", 40.3, None),
)

# (who, mIoU) on PASCAL VOC 2012
VOC = (
    ("public notebook, clippy_5k.pt (protocol public, train)", 42.107),
    ("paper, CC-12M", 50.8),
    ("paper, HQITP-134M", 52.2),
    ("paper, its CLIP baseline, CC-12M", 17.5),
)

# (who, mIoU). Which of COCO's label sets the paper's "COCO" is, our facts do not say; it is taken for the panoptic one.
ADE20K = (
    ("paper, CC-12M", 13.1),
    ("paper, HQITP-134M", 13.5),
    ("paper, its CLIP baseline, CC-12M", 5.0),
)
COCO_PANOPTIC = (
    ("paper, CC-12M", 23.8),
    ("paper, HQITP-134M", 25.5),
    ("paper, its CLIP baseline, CC-12M", 7.8),
)
COCO_OBJECT = (
    ("paper, CC-12M", 28.5),
    ("paper, HQITP-134M", 32.0),
    ("paper, its CLIP baseline, CC-12M", 13.2),
)

# By the name of a data set's label layout
SEGMENTATION = {
    "PASCAL VOC": VOC,
    "ADE20K, 150 classes": ADE20K,
    "COCO panoptic, 133 classes": COCO_PANOPTIC,
    "COCO-Object, 80 classes and background": COCO_OBJECT,
}

# (who, Jaccard similarity) on PASCAL VOC 2012, groups of patches by PCA
VOC_GROUPING = (
    ("paper, CC-12M", 47.5),
    ("paper, HQITP-134M", 54.6),
    ("paper, its CLIP baseline, CC-12M", 37.3),
)

# (pooling, ImageNet top-1, VOC mIoU, VOC Jaccard): the paper's ablation of the pooling, CC-12M
POOLING = (
    ("paper, max", 42.3, 50.8, 47.5),
    ("paper, avg", 44.0, 11.6, 38.1),
    ("paper, cls", 46.0, 4.0, 40.4),
)

# (who, accuracy on the bird's own place, on the other, gap) on Waterbirds' test split, three-way, 448x448
WATERBIRDS = (
    ("paper, waterbird", 76.9, 74.9, 2.0),
    ("paper, its CLIP baseline, waterbird", 80.2, 48.1, 32.1),
)
