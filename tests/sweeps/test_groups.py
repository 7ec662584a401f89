"""Which runs are replicates, and which flags tell groups of them apart."""

import pytest

from lottery_tf.sweeps import groups


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("masks_from", "runs/snip_seed=1", "runs/snip"),
        ("masks_from", "runs/reset=init_seed=1", "runs/reset=init"),
        ("masks_from", "runs/init_seed=2_data_seed=30", "runs/"),
        ("masks_from", "runs/snip_seed=0", "runs/snip_seed=0"),  # of another seed: no replicate
        ("masks_from", "runs/snip_seed=11", "runs/snip_seed=11"),
        ("masks_from", "runs/mine_1", "runs/mine_1"),  # a name that is not known
        ("masks_from", "", ""),
        ("repel_runs", ("runs/seed=1_repel=2", "b_seed=1"), ("runs/_repel=2", "b")),
        ("repel_runs", ["b_seed=1"], ("b",)),
        ("dataset", "data/seed=1", "data/seed=1"),  # it names no run
    ],
)
def test_flags_that_name_runs_are_alike_for_replicates(name, value, expected):
    flags = {"seed": 1, "init_seed": 2, "data_seed": 30, name: value}
    assert groups.value(flags, name) == expected


def run(seed=0, **flags):
    return {"seed": seed, "init_seed": seed, "data_seed": seed, "reset": "init"} | flags


def test_flags_that_differ_are_in_the_order_of_help_and_others_last():
    runs = [run(0, own=1), run(1, model="lenet"), run(1, model="lenet", own=1)]
    assert groups.differing(runs) == ["seed", "model", "own"]
    assert groups.differing([run(0), run(0, data_seed=3)]) == ["data_seed"]
    assert groups.differing([]) == []


def test_what_varies_inside_a_panel_parts_it_into_curves():
    runs = [
        run(seed, batch_size=size, reset=reset)
        for size, reset in ((8, "init"), (8, "reinit"), (16, "reinit"))
        for seed in (0, 1)
    ]
    assert groups.varying(runs) == ["batch_size", "reset"]
    assert groups.varying(runs, panel=["batch_size"]) == ["reset"]
    assert groups.varying(runs[-2:]) == []


def test_replicates_differ_in_seeds_alone_and_a_reinit_has_the_colour_of_its_ticket():
    runs = [
        run(seed, batch_size=size, reset=reset)
        for size in (8, 16)
        for reset in ("init", "reinit")
        for seed in (0, 1)
    ]
    found = groups.group(
        [(flags, number) for number, flags in enumerate(runs)],
        panel=[],
        curve=["batch_size", "reset"],
        name=lambda flags: ", ".join(map(str, flags.values())),
    )
    assert [(of.curve, of.runs, of.colour, of.control) for of in found] == [
        ("8, init", [0, 1], 0, False),
        ("8, reinit", [2, 3], 0, True),
        ("16, init", [4, 5], 1, False),
        ("16, reinit", [6, 7], 1, True),
    ]
