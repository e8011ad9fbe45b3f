"""`parley plan`."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from ..data.errors import InputError
from ..train.plan_chips import CHIPS, parse_topology
from .arguments import parse
from .console import remark
from .evaluation_plot import check_plot_path
from .registry import unknown_name

if TYPE_CHECKING:
    from ..train.recipe import Recipe

SCALING = (8, 16, 32, 64, 128, 256, 512, 1024)
"""Chips of the weak-scaling curve."""
_SWEPT = (1.0, 2.0, 4.0)
"""Batches of a sweep, times that of the recipe."""

_USAGE = """usage: parley plan PRESET --topology CHIP:SHAPE [any recipe field by its path]

What a training run would take on accelerators, before they are paid for: compiles the recipe's
training step for the topology, with no such hardware, and prints memory against what a chip has,
arithmetic, bytes, communication, and by the roofline the time of a step and of the run.

examples:
  parley plan conv-rnnt-30m --topology v5e:16x16
  parley plan conformer-large --topology v5p:4x4x4 --remat blocks --mesh.fsdp 4
  parley plan conv-rnnt-30m --topology h100:8 --json
  parley plan tt-large --topology v5e:8x8 --sweep --out plan.svg
  parley plan tt-large --topology v5e:8x8 --sweep --meshes 64x1x1 16x4x1 --batches 2400 9600

chips: {chips}. TPU is compiled by its own compiler, which must be installed (the command says how
where it is not). GPU is a roofline over a program that is compiled for as many CPU devices.

presets: {presets}
"""


def plan_command(argv: list[str]) -> int:
    from ..configs import presets

    known = presets()
    if not argv or argv[0].startswith("-"):
        import sys

        wants_help = bool({"-h", "--help"} & set(argv))
        text = _USAGE.format(presets=", ".join(known), chips=", ".join(CHIPS))
        print(text, file=sys.stdout if wants_help else sys.stderr)
        return 0 if wants_help else 2
    name, *rest = argv
    if name not in known:
        raise unknown_name(name, list(known), "preset", "parley plan --help")
    given = parse_plan(known[name], rest)
    _plan(given)
    return 0


def parse_plan(preset: "Recipe", argv: list[str]) -> Any:
    """The command line as a dataclass whose recipe has the fields that it overrides."""
    kind: Any = type(preset)

    @dataclass(frozen=True)
    class PlanArguments:
        """What a run takes on a topology; each option below is a field of the recipe, by its path,
        or one of these."""

        recipe: Annotated[
            kind,  # pyright: ignore[reportInvalidTypeForm]
            tyro.conf.arg(name=""),
            tyro.conf.AvoidSubcommands,
        ]
        topology: str
        """v5e:16x16, v5p:4x4x4, v6e:8x8, h100:8, ..."""
        utterance_seconds: float | None = None
        """Of every utterance of the batch; by default the longest that the recipe admits."""
        largest: bool = False
        """Compile once more, with twice the rows, for the largest batch that fits."""
        sweep: bool = False
        """Compile over batches and meshes, and print a table."""
        batches: tuple[float, ...] = ()
        """Of a sweep, seconds of audio; by default 1, 2 and 4 times the recipe's."""
        meshes: tuple[str, ...] = ()
        """Of a sweep, DATAxFSDPxMODEL; by default the recipe's, and one with fsdp over 8 chips."""
        out: Path | None = None
        """A picture of the sweep and of weak scaling: .png, .svg or .pdf."""
        libtpu: Path | None = None
        """The folder that libtpu was installed into."""
        json: bool = False
        """Print JSON instead of tables."""

    default = PlanArguments(preset, "v5e:16x16")
    return parse(PlanArguments, argv, f"parley plan {preset.name}", default=default)


def _plan(given: Any) -> None:
    from ..train.plan_roofline import weak_scaling
    from .plan_process import run_plans
    from .plan_report import show_plan, show_scaling, show_sweep

    if given.out is not None:
        check_plot_path(given.out)
    chip, chips = parse_topology(given.topology)
    recipes = swept(given, chips) if given.sweep else [given.recipe]
    if given.largest:
        whole = batch_seconds(recipes[0], chips, given.utterance_seconds)
        double = _with_batch(recipes[0], 2.0 * whole)
        recipes += [double] if double not in recipes else []
    records: list[dict[str, Any]] = []
    remark(f"compiling {len(recipes)} program{'s' if len(recipes) > 1 else ''}: minutes each")
    topologies = [given.topology] * len(recipes)
    for record in run_plans(recipes, topologies, given.utterance_seconds, given.libtpu):
        records.append(record)
        if len(recipes) > 1:
            remark(f"{len(records)} of {len(recipes)}: {record['compile_seconds']:.0f} s")
    first = next((r for r in records if r["estimate"]), None)
    scaling = weak_scaling(first, chip, SCALING) if first else []
    room = largest_batch(records) if given.largest else None
    if given.json:
        shown = {"plans": records, "weak_scaling": scaling, "largest_batch_seconds": room}
        print(json.dumps(shown, indent=1))
    else:
        show_plan(records[0], room)
        if given.sweep:
            show_sweep(records)
        if first:
            show_scaling(scaling, first)
    if given.out is not None:
        from .plan_plot import write_plan

        write_plan(records, scaling, given.out)
        remark(f"the picture is in {given.out}")


def swept(given: Any, chips: int) -> "list[Recipe]":
    """The recipes of a sweep, the recipe itself first."""
    from ..train.plan_compile import mesh_sizes

    recipe = given.recipe
    own = "x".join(map(str, mesh_sizes(recipe.mesh, chips)))
    whole = batch_seconds(recipe, chips, given.utterance_seconds)
    batches = given.batches or tuple(m * whole for m in _SWEPT)
    split = f"{chips // 8}x8x1" if chips % 8 == 0 and chips > 8 else f"1x{chips}x1"
    meshes = given.meshes or tuple(dict.fromkeys((own, split)))
    found = []
    for mesh in meshes:
        sizes = mesh.split("x")
        if len(sizes) != 3 or not all(n.isdigit() and int(n) for n in sizes):
            raise InputError(f"--meshes {mesh} is no mesh: give DATAxFSDPxMODEL, as 32x8x1.")
        data, fsdp, model = map(int, sizes)
        shape = replace(recipe.mesh, data=data, fsdp=fsdp, model=model)
        mesh_sizes(shape, chips)
        found += [_with_batch(replace(recipe, mesh=shape), seconds) for seconds in batches]
    return found


def batch_seconds(recipe: "Recipe", chips: int, seconds: float | None) -> float:
    """Of audio in the batch that the loader makes: at least a row for every chip, which may be more
    than the recipe asks for."""
    from ..train.plan_compile import mesh_sizes, step_shape

    mesh = mesh_sizes(recipe.mesh, chips)
    return step_shape(recipe, mesh, seconds or recipe.data.max_seconds).audio_seconds


def _with_batch(recipe: "Recipe", seconds: float) -> "Recipe":
    # A little more, so that what is computed of whole rows holds as many.
    return replace(recipe, data=replace(recipe.data, batch_seconds=seconds + 1e-3))


def largest_batch(records: list[dict[str, Any]]) -> float | None:
    """Seconds of audio over all chips that fit, on the line through two compiled batches: the
    first, and the next larger one on the same mesh.

    None where there is none, or memory does not grow.
    """
    small = records[0]
    larger = [
        r
        for r in records[1:]
        if r["mesh"] == small["mesh"] and r["audio_seconds"] > small["audio_seconds"]
    ]
    if not larger:
        return None
    big = min(larger, key=lambda r: r["audio_seconds"])
    slope = big["memory"]["total"] - small["memory"]["total"]
    slope /= big["audio_seconds"] - small["audio_seconds"]
    if slope <= 0:
        return None
    room = small["memory"]["capacity"] - small["memory"]["total"]
    row = small["utterance_seconds"] * small["mesh"][0] * small["mesh"][1] * small["accumulate"]
    return max(0.0, (small["audio_seconds"] + room / slope) // row * row)
