"""CLIPpy B/16 on CC-12M: the recipe of the public training run, which gave `clippy_5k.pt`.

Run it with the data and the two starting points:

    python -m clippy_jax.main --config=configs/b16.py --workdir=runs/b16 \\
        --config.input.train='/data/cc12m/{00000..01242}.tar' --config.input.tokenizer=sentence-t5-base/ \\
        --config.init.image=dino_vitbase16_pretrain.pth --config.init.text=sentence-t5-base/

Sources: "paper" is Ranasinghe et al., "Perceptual Grouping in Contrastive Vision-Language Models", ICCV 2023
(arXiv 2210.09996); "public code" is the PyTorch training run that the authors released. Where the two differ, both
values stand side by side.
"""

from ml_collections import ConfigDict

# The flags of the evaluation program.
EVALUATIONS = (
    "imagenet",
    "imagenet_v2",
    "wds",
    "open_vocabulary",
    "voc",
    "voc20",
    "context",
    "context_background",
    "ade20k",
    "coco",
    "coco_stuff",
    "coco_object",
    "cityscapes",
    "cityscapes19",
    "grouping",
    "waterbirds",
    "retrieval",
    "knn",
    "linear_probe",
)


def get_config() -> ConfigDict:
    """Every field of `clippy_jax.config.Config`."""
    config = ConfigDict()

    # ---------------------------------------------------------------------------------------------------- model
    config.model = ConfigDict()

    # ViT-B/16 (paper, section 4; public code, `vit_base_patch16_224_dino`).
    config.model.image = ConfigDict()
    config.model.image.patch_size = 16  # pixels
    config.model.image.image_size = 224  # DINO's positions: a grid of 14 x 14
    config.model.image.width = 768
    config.model.image.depth = 12
    config.model.image.heads = 12
    config.model.image.mlp_width = 3072
    config.model.image.position_interpolation = "dino"  # at sizes other than 224, as DINO itself does
    # The public configuration says 0.5 but never hands it to the tower: the released run saw every patch. The paper's
    # token sub-sampling drops 0.8 of the tokens of images up to twice as large (ImageNet 42.3 -> 45.6).
    config.model.image.patch_dropout = 0.0
    # DINO's ViT; `docs/towers.md` has the lines of DINOv2, DINOv3 and SigLIP.
    config.model.image.positions = "learned"
    config.model.image.registers = 0
    config.model.image.layer_scale = False
    config.model.image.gated_mlp = False
    config.model.image.tanh_gelu = False
    config.model.image.map_head = False
    config.model.image.norm_eps = 1e-6
    config.model.image.pixel_statistics = "clip"  # public code, although DINO was trained with ImageNet's

    # T5-base encoder with Sentence-T5's head (paper, section 4; public code, `sentence-t5-base`).
    config.model.text = ConfigDict()
    config.model.text.vocabulary_size = 32128
    config.model.text.width = 768
    config.model.text.depth = 12
    config.model.text.heads = 12
    config.model.text.head_width = 64
    config.model.text.mlp_width = 3072
    config.model.text.gated_mlp = False  # T5 1.0: ReLU
    config.model.text.relative_buckets = 32
    config.model.text.relative_max_distance = 128
    config.model.text.embedding_width = 768
    config.model.text.dropout = 0.1  # public code: the T5 is in train mode; the ViT has no dropout
    # Public code: attention weights are dropped as everything else. 0.0 is faster on GPUs (`docs/speed.md`).
    config.model.text.attention_dropout = -1.0  # as `dropout`

    # CHOICE 1 of 2. Paper (section 3.2): the maximum over the spatial tokens, "max".
    #                Public code, training and evaluation: over all tokens, CLS included, "max_with_cls".
    config.model.pooling = "max_with_cls"
    config.model.image_projection = False  # both towers are 768 wide; public code drops its configured projection
    config.model.precision = "float32"  # public code; "bfloat16" is faster on H100 and TPU
    config.model.rematerialise = True  # public code: --grad-checkpointing

    # ----------------------------------------------------------------------------------------- starting weights
    config.init = ConfigDict()
    config.init.image = ""  # dino_vitbase16_pretrain.pth (paper, Table "initialisation")
    config.init.text = ""  # the folder of sentence-t5-base
    config.init.clippy = ""  # instead of both: clippy_5k.pt

    # ---------------------------------------------------------------------------------------------------- input
    config.input = ConfigDict()
    config.input.train = ""  # public run: 1,243 tars with 10,968,539 pairs, {00000..01242}.tar
    config.input.tokenizer = ""  # the folder of sentence-t5-base
    config.input.batch_size = 8192  # public run: 1,024 on each of 8 V100
    config.input.image_size = 224
    config.input.crop_scale = (0.9, 1.0)  # public code, RandomResizedCrop
    config.input.crop_ratio = (3 / 4, 4 / 3)  # torchvision's default
    config.input.flip = False  # public code: no flip, no colour jitter
    config.input.text_length = 77  # public code
    config.input.texts_per_pack = 64  # public code pads all to 77; texts that share rows have the same embeddings
    config.input.clean_captions = True  # public code: ftfy, html-unescape twice, white space collapsed
    config.input.index_folder = ""  # beside the shards
    config.input.seed = 0
    config.input.image_column = ""  # of tables: the usual names, such as filepath
    config.input.caption_column = ""  # likewise, such as caption
    config.input.max_pixels = 2**26  # 8192 x 8192; as RGB 0.2 GB in every worker
    config.input.max_bad_fraction = 0.3  # more than the web's usual few percent means that something is wrong
    config.input.image_features = ""  # of a frozen image tower, instead of images: `docs/towers.md`
    config.input.image_features_dtype = "bfloat16"
    config.input.ledger = False  # a digest of the samples of every step, for `clippy_jax.prove_resume`

    # ----------------------------------------------------------------------------------------------------- loss
    config.loss = ConfigDict()
    # The paper and the public code: "softmax". "ring" is the same in less memory, for batches of 32k and more;
    # "sigmoid" is SigLIP's.
    config.loss.kind = "softmax"
    # CHOICE 2 of 2. Paper (equation of section 3.1): the "sum" of the two directions.
    #                Public code: their "mean".
    config.loss.reduction = "mean"

    # ----------------------------------------------------------------------------------------------- optimizer
    config.optimizer = ConfigDict()
    config.optimizer.beta1 = 0.9  # public code
    config.optimizer.beta2 = 0.999  # public code: "clippy-b-16" does not count as a ViT there, which would mean 0.98
    config.optimizer.eps = 1e-8  # likewise, not 1e-6
    config.optimizer.weight_decay = 0.2  # public code
    config.optimizer.gradient_clip_norm = 0.0  # public code: no clipping
    config.optimizer.freeze = ()  # both towers learn; the paper's Table freezes ("image",) and ("text",)

    config.schedule = ConfigDict()
    config.schedule.peak_learning_rate = 5e-4  # public code
    config.schedule.warmup_steps = 10_000  # public code
    config.schedule.decay_steps = 43_008  # public run: 32 epochs of 1,344 steps
    config.schedule.stop_step = 5_000  # `clippy_5k.pt` is the state here, still in the warm-up (rate 2.5e-4)

    # --------------------------------------------------------------------------------- checkpoints and logging
    config.checkpoint = ConfigDict()
    config.checkpoint.every_steps = 500
    config.checkpoint.every_minutes = 30.0
    config.checkpoint.keep = 3
    config.checkpoint.keep_every_steps = 1_000
    config.checkpoint.max_steps_lost = 1_000  # a damaged checkpoint costs 500 steps; ask before doing more again

    config.wandb = ConfigDict()
    config.wandb.project = ""  # public run logged to Weights & Biases; name a project to do so
    config.wandb.name = ""

    config.evals = ConfigDict()
    config.evals.batch_size = 256
    config.evals.image_size = 224
    config.evals.tasks = ConfigDict()
    for name in EVALUATIONS:
        config.evals.tasks[name] = ConfigDict()
        config.evals.tasks[name].path = ""  # for example /data/imagenet/val, /data/VOC2012
        config.evals.tasks[name].every_steps = 1_344  # public run: after every epoch

    # ------------------------------------------------------------------------------------------------------ run
    config.seed = 0
    config.microbatches = 1  # public code: none. More parts take less memory and more time, and change no gradient
    config.parameter_sharding = "replicated"  # public run: DDP; "fsdp" splits parameters and moments over the devices
    config.log_every_steps = 10
    config.profile_steps = ()  # for example (10, 13)
    config.skip_nonfinite_updates = 0  # stop at the first loss or gradient that is not finite
    config.save_diverged_batch = False  # its pixels and tokens, too; `clippy_jax.replay` reads them from the data again

    return config
