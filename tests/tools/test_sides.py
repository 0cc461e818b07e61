"""Each side's turns, in processes of their own, put together."""

from tools.benchmarks.progress import Progress
from tools.benchmarks.sides import take_turns


def test_turns_are_put_together(capfd):
    progress = Progress(4)
    measured = take_turns("tests.tools.fake_sides", ("ours", "eager"), {"speed": 3.0}, 2, 3, "nothing", progress)
    assert list(measured) == ["ours", "eager"]
    for name, one in measured.items():
        assert len(one.seconds) == 2 * 3 and min(one.seconds) > 0
        assert one.matmul_rate == {"ours": 3.0, "eager": 6.0}[name]
        assert one.peak_memory >= one.facts["process"]  # the larger of two processes' numbers
        assert ("hugetlb" in one.facts["tunables"]) == (name == "ours")
    printed = capfd.readouterr().err
    assert printed.count("run ") == 2 * 2 * (3 + 3)  # each run once beforehand
    assert [line.split(": ")[-1] for line in printed.splitlines() if "after" in line] == ["ours", "PyTorch"] * 2
