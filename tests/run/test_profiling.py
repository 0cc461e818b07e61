import jax
import jax.numpy as jnp

from clippy_jax.run.profiling import Profiler


def run_steps(profiler, count):
    step_function = jax.jit(lambda x: x @ x)
    outputs = jnp.eye(8)
    for step in range(1, count + 1):
        profiler.before(step)
        outputs = step_function(outputs)
        profiler.after(step, outputs)


def traces(workdir):
    return list((workdir / "profile").rglob("*.xplane.pb"))


def test_trace_of_the_chosen_steps_is_written(tmp_path):
    profiler = Profiler(tmp_path, (2, 3))
    run_steps(profiler, 1)
    assert not (tmp_path / "profile").exists()
    run_steps(profiler, 5)
    assert len(traces(tmp_path)) == 1
    assert traces(tmp_path)[0].stat().st_size > 0
    profiler.close()


def test_trace_is_written_when_training_ends_within_it(tmp_path):
    profiler = Profiler(tmp_path, (2, 30))
    run_steps(profiler, 4)
    profiler.close()
    assert len(traces(tmp_path)) == 1


def test_no_steps_no_trace(tmp_path):
    profiler = Profiler(tmp_path, ())
    run_steps(profiler, 4)
    profiler.close()
    assert not (tmp_path / "profile").exists()
