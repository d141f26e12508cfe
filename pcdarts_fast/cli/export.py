"""`pcdarts export`: a trained network, or a genotype as code, for other programs."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from ..errors import UserError
from ..files import check_parent, write_atomically
from ..run.config import SearchConfig
from ..run.folder import RunFolder
from ..run.presets import images_of
from ..run.ranges import COUNT, check_range
from ..run.settings import load_settings
from ..space import PUBLISHED, Genotype
from ..train.config import TrainConfig
from ..train.presets import train_config
from .count import Number
from .parse import parse

if TYPE_CHECKING:  # takes seconds to import, and --help does without
    from ..nn.exported import TrainedOn

EXAMPLES = """\
pcdarts export runs/train-digits -o net.onnx
pcdarts export net.safetensors -o net.pt2
pcdarts export PC_DARTS_cifar -o cell.py          code that needs torch alone"""

SHOWN_CLASSES = 20
"""Of more than that the first and the last are shown."""
FORMATS = (".onnx", ".pt2", ".safetensors", ".py")


@dataclass(frozen=True)
class Export:
    """Writes a trained network to a file for other programs; its ending says how."""

    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN_OR_WEIGHTS")]
    """Folder of a training, or its weights.safetensors; for a .py also of a search, or a genotype.
    """
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="FILE")]
    """File to write: .onnx, .pt2 (torch.export), .safetensors (weights) or .py (code for torch
    alone)."""
    image_size: Number = None
    """In pixels; None: as in training."""
    preset: str | None = None
    """Size of the network in the .py of a genotype, as in `pcdarts train`; None: cifar10."""


def main(args: list[str]) -> int:
    """Runs the command; 0 when the file is written.

    Raises:
        UserError: the source or the file cannot be used, or the export computes something else.
    """
    command = parse(Export, args, examples=EXAMPLES)
    ending = command.output.suffix
    if ending not in FORMATS:
        raise UserError(
            f"cannot export to {command.output}: {ending or 'a name without ending'} is no "
            f"format; wanted one of {', '.join(FORMATS)}"
        )
    if command.image_size is not None:
        check_range(command, ["image_size"], COUNT)
        if ending not in (".onnx", ".pt2"):
            raise UserError(f"--image-size is for .onnx and .pt2, not for {ending}; leave it out")
    check_parent(command.output)
    weights = find_weights(command.source)
    if command.preset is not None and (weights or ending != ".py" or Path(command.source).is_dir()):
        raise UserError(
            "--preset is for the .py of a genotype: runs and weights know their own; leave it out"
        )
    if ending == ".py":
        _write_code(command, weights)
    elif weights is None:
        raise UserError(_no_weights(command.source, ending))
    else:
        _write_network(command, weights)
    return 0


def find_weights(source: str) -> Path | None:
    """The weights file that `source` is, or that lies in it; None where there is none.

    Raises:
        UserError: `source` is neither a file nor a folder nor a published genotype.
    """
    path = Path(source)
    if path.is_dir():
        weights = RunFolder(path).weights
        return weights if weights.exists() else None
    if not path.exists() and source not in PUBLISHED:
        raise UserError(
            f"no run, weights or genotype {source}; wanted a folder or a file, "
            f"or one of {', '.join(PUBLISHED)}"
        )
    return path if path.suffix == ".safetensors" else None


def _no_weights(source: str, ending: str) -> str:
    """What is wrong, and what to do.

    Raises:
        UserError: the folder `source` holds no run, or a damaged one.
    """
    from ..report.commands import train_command

    if not Path(source).is_dir():
        how = f"train first: pcdarts train --genotype {shlex.quote(source)}"
    else:
        folder = _begun(Path(source))
        if folder.is_search:
            config = load_settings(SearchConfig, folder.config)
            how = f"train first: {train_command(folder.genotype, config)}"
        else:
            how = f"go on with: pcdarts train --resume --output-dir {shlex.quote(source)}"
    return f"{source} has no trained network, which {ending} needs; {how}"


def _begun(path: Path) -> RunFolder:
    folder = RunFolder(path)
    if not folder.begun:
        raise UserError(f"no run in {path}: it holds no {folder.config.name}")
    return folder


def _write_code(command: Export, weights: Path | None) -> None:
    # Take seconds to import.
    from ..nn.exported import read_metadata
    from ..nn.source_code import python_code

    if weights is not None:
        genotype, arguments, trained_on = read_metadata(weights)
        told = _told(trained_on)
    else:
        genotype, arguments, told = _genotype_and_size(command)
    write_atomically(command.output, python_code(genotype, arguments).encode())
    print(f"Written: {command.output}", *told, sep="\n")


def _genotype_and_size(command: Export) -> tuple[Genotype, dict[str, Any], list[str]]:
    """The genotype of a search's folder, of a file or published, a preset's arguments, notes."""
    path = Path(command.source)
    if not path.is_dir():
        genotype = Genotype.load(command.source)
        config = train_config("cifar10" if command.preset is None else command.preset)
    else:
        folder = _begun(path)
        genotype = Genotype.load(folder.genotype)
        if folder.is_search:
            search = load_settings(SearchConfig, folder.config)
            config = replace(train_config(search.preset), stem=search.stem)
        else:
            config = load_settings(TrainConfig, folder.config)
    classes, (channels, _, _) = images_of(config.preset, None)
    arguments = {
        "C": config.init_channels,
        "num_classes": classes,
        "layers": config.layers,
        "in_channels": channels,
        "stem": config.stem,
    }
    unknown = config.preset == "imagefolder"  # until the end of a training
    note = f"{classes} classes; for another number: Network(num_classes=...)"
    return genotype, arguments, [note] if unknown else []


def _write_network(command: Export, weights: Path) -> None:
    # Take seconds to import.
    from ..nn.exported import export, load_network, read_metadata
    from ..nn.interchange import to_onnx, to_torch_export

    genotype, arguments, trained_on = read_metadata(weights)
    network = load_network(weights)
    if command.output.suffix == ".safetensors":
        write_atomically(command.output, export(network, genotype, trained_on, **arguments))
        print(f"Written: {command.output}", *_told(trained_on), sep="\n")
        return
    size = _image_size(command, weights, trained_on)
    image = (arguments["in_channels"], size, size)
    make, by = {".onnx": (to_onnx, "onnxruntime"), ".pt2": (to_torch_export, "torch.export")}[
        command.output.suffix
    ]
    content, difference = make(network, image, trained_on)
    write_atomically(command.output, content)
    print(
        f"Written: {command.output}\n"
        f"images [batch, {image[0]}, {size}, {size}] float32, normalised as in training -> "
        f"logits [batch, {arguments['num_classes']}]",
        *_told(trained_on),
        f"largest difference of a logit from the trained network's: {difference:.1e} "
        f"({by}, batches of 1 and 3)",
        sep="\n",
    )


def _told(trained_on: TrainedOn | None) -> list[str]:
    """A line each about the images and the classes of a training."""
    if trained_on is None:
        return []
    mean, std = (" ".join(map(str, values)) for values in (trained_on.mean, trained_on.std))
    lines = [f"images are scaled to [0, 1], then normalised by mean {mean} and std {std}"]
    if trained_on.classes:
        # Quoted: names in files from elsewhere may hold what moves a terminal's cursor.
        names = [f"{number} {name!r}" for number, name in enumerate(trained_on.classes)]
        if len(names) > SHOWN_CLASSES:
            names[SHOWN_CLASSES - 1 : -1] = ["..."]
        lines.append(f"classes of the logits: {', '.join(names)}")
    return lines


def _image_size(command: Export, weights: Path, trained_on: TrainedOn | None) -> int:
    """As given, or that of the images of the training."""
    if command.image_size is not None:
        return command.image_size
    if trained_on is None or trained_on.image_size is None:
        raise UserError(f"{weights} does not say the size of its images; give it with --image-size")
    return trained_on.image_size
