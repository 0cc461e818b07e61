import jax
import jax.numpy as jnp

from clippy_jax.run.overview import config_fields, config_overview, parameter_overview


def test_config_fields_bear_the_names_that_override_them(config):
    fields = config_fields(config)
    assert fields["config.model.image.width"] == config.model.image.width
    assert fields["config.evals.tasks.voc.path"] == config.evals.tasks["voc"].path
    assert fields["config.seed"] == config.seed
    lines = config_overview(config).splitlines()
    assert [line.split()[0] for line in lines] == list(fields)
    assert f"config.model.pooling{' ' * (max(map(len, fields)) - 18)}'max'" in lines


def test_parameter_overview_adds_up_per_tower_and_in_all():
    params = {
        "image": {"blocks": {"kernel": jnp.zeros((3, 8, 64))}, "norm": jax.ShapeDtypeStruct((8,), jnp.float32)},
        "logit_scale": jnp.zeros(()),
        "text": {"embedding": jnp.zeros((1000, 8))},
    }
    assert parameter_overview(params).splitlines() == [
        "image/blocks/kernel  (3, 8, 64)          1,536",
        "image/norm           (8,)                    8",
        "logit_scale          ()                      1",
        "text/embedding       (1000, 8)           8,000",
        "total image                              1,544",
        "total logit_scale                            1",
        "total text                               8,000",
        "total                                    9,545",
    ]
