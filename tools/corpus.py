"""Compares `lle_jax.images.read` with independent decoders on folders of test files.

    pip download --no-deps --no-binary pillow pillow && tar xzf pillow-*.tar.gz
    python tools/corpus.py pillow-*/Tests "$(python -c 'import pydicom; print(*pydicom.__path__)')"

Each picture (its first frame) is compared with what Pillow, tifffile, OpenCV and pydicom decode, as
far as they do. Prints a table in Markdown and names the files that no decoder confirms and those
that are called damaged while a decoder reads them.
"""

import argparse
import collections
import pathlib
import warnings

import cv2
import numpy as np
import pydicom
import tifffile
from PIL import Image, ImageOps
from pydicom import pixels as codecs

from lle_jax import images
from lle_jax.images.errors import quiet
from lle_jax.images.picture import upright

COLUMNS = ("agrees with all", "with some", "no other decoder", "refused",
           "called damaged", "contradicted")  # fmt: skip
MEAN, NEARLY_ALL = 1.5 / 255, 8 / 255  # 8-bit and lossy decoders differ by that much


def by_pillow(path: pathlib.Path) -> np.ndarray:
    with Image.open(path) as image:
        image.load()
        image = ImageOps.exif_transpose(image)
        if image.mode == "F":
            return np.asarray(image)[..., None]
        if image.mode.startswith("I"):
            bits = max(image.tag_v2.get(258, (16,))) if hasattr(image, "tag_v2") else 16
            levels, clear = np.asarray(image), image.info.get("transparency")
            opacity = np.ones(levels.shape) if clear is None else levels != clear
            return np.dstack([levels / (2.0**bits - 1), opacity])
        return np.asarray(image.convert("RGBA")) / 255


def by_tifffile(path: pathlib.Path) -> np.ndarray:
    with tifffile.TiffFile(path) as tif:
        page = next(page for page in tif.pages if not page.subfiletype & 0b101)
        levels, name = page.asarray(), page.photometric.name
        if name == "PALETTE":
            return upright(page.colormap.T[levels.astype(int)] / 65535, _tag(page))
        if name not in ("RGB", "MINISBLACK", "MINISWHITE") and page.compression != 7:
            raise ValueError(name)
        levels = np.moveaxis(levels, 0, -1) if page.axes == "SYX" else levels
        levels = levels.reshape(page.imagelength, page.imagewidth, -1)
        if levels.dtype.kind != "f":
            levels = levels / (2.0**page.bitspersample - 1)
        if name == "MINISWHITE":
            levels = np.concatenate([1 - levels[..., :1], levels[..., 1:]], axis=-1)
        if page.extrasamples[:1] == (1,):
            levels = np.concatenate(
                [np.minimum(levels[..., :-1] / np.maximum(levels[..., -1:], 1e-6), 1),
                 levels[..., -1:]], axis=-1,
            )  # fmt: skip
        return upright(levels, _tag(page))


def _tag(page: tifffile.TiffPage) -> int:
    return int(page.tags.valueof(274, 1))


def by_opencv(path: pathlib.Path) -> np.ndarray:
    levels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    if levels is None or levels.dtype.kind != "u":
        raise ValueError("not decoded")
    unit = levels.reshape(*levels.shape[:2], -1) / float(np.iinfo(levels.dtype).max)
    unit = unit[..., {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[unit.shape[-1]]]
    with Image.open(path) as image:
        return upright(unit, image.getexif().get(274, 1))


def by_pydicom(path: pathlib.Path) -> np.ndarray:
    dataset = pydicom.dcmread(path, force=True)
    stored = codecs.pixel_array(dataset, index=0, raw=False)
    kind = dataset.PhotometricInterpretation
    if kind == "PALETTE COLOR":
        colours = codecs.apply_color_lut(stored, dataset)
        return (colours >> 8) / 255 if colours.dtype == np.uint16 else colours / 255
    if stored.ndim == 3:
        return stored / (2.0**dataset.BitsStored - 1)
    values = codecs.apply_modality_lut(stored, dataset)
    shown = np.asarray(codecs.apply_voi_lut(values, dataset), float)
    ends = np.array([shown.min(), shown.max()])
    if "WindowCenter" in dataset or "VOILUTSequence" in dataset or dataset.BitsStored <= 8:
        first = -(2 ** (dataset.BitsStored - 1)) if dataset.PixelRepresentation else 0
        ends = np.array([first, first + 2**dataset.BitsStored - 1])
        ends = np.sort(codecs.apply_modality_lut(ends, dataset).astype(float))
        if "VOILUTSequence" in dataset:
            ends = np.array([0, 2 ** dataset.VOILUTSequence[0].LUTDescriptor[2] - 1])
    unit = ((shown - ends[0]) / (ends[1] - ends[0]))[..., None]
    return 1 - unit if kind == "MONOCHROME1" else unit


def by_imagecodecs(path: pathlib.Path) -> np.ndarray:
    import imagecodecs  # of the extra formats

    levels = imagecodecs.heif_decode(path.read_bytes())
    unit = levels / (255 if levels.dtype == np.uint8 else 1023)
    return unit.reshape(*levels.shape[:2], -1)


def agree(ours: np.ndarray, alpha: np.ndarray | None, theirs: np.ndarray) -> bool:
    """Whether two pictures show the same, as far as they are opaque, and have the same opacity."""
    opacity = theirs[..., -1] if theirs.shape[-1] in (2, 4) else np.ones(theirs.shape[:2])
    colour = theirs[..., :-1] if theirs.shape[-1] in (2, 4) else theirs
    if ours.shape[:2] != colour.shape[:2]:
        return False
    mine = np.ones(ours.shape[:2]) if alpha is None else alpha
    error = np.abs(ours - colour).max(-1) * opacity
    worst = max(error, np.abs(mine - opacity), key=np.mean)
    return bool(worst.mean() <= MEAN and np.quantile(worst, 0.995) <= NEARLY_ALL)


def judge(path: pathlib.Path) -> tuple[str, str, str]:
    """Returns the format, the column of the table, and a remark."""
    with path.open("rb") as file:
        kind = images._format(file.read(4096)) or "other"
    readers = {
        "dicom": [by_pydicom],
        "tiff": [by_tifffile, by_pillow, by_opencv],
        "heic": [by_imagecodecs],
    }
    theirs = {}
    for reader in readers.get(kind, [by_pillow, by_opencv]):
        try:
            theirs[reader.__name__] = reader(path)
        except Exception:  # whatever another decoder fails with
            continue
    try:
        picture = images.read(path, max_pixels=2**26)
    except images.ImageError as error:
        damaged = "damaged" in str(error) and theirs
        reason = str(error).removeprefix(f"{path}: ")
        return kind, "called damaged" if damaged else "refused", reason
    pixels, alpha = picture.pixels, picture.alpha
    if pixels.ndim == 4:
        pixels, alpha = pixels[0], None if alpha is None else alpha[0]
    if alpha is not None and alpha.dtype.kind == "u":
        alpha = alpha / float(np.iinfo(alpha.dtype).max)
    agreeing = [name for name, other in theirs.items() if agree(pixels, alpha, other)]
    column = ("no other decoder" if not theirs else "contradicted" if not agreeing
              else COLUMNS[len(agreeing) < len(theirs)])  # fmt: skip
    return kind, column, ", ".join(sorted(set(theirs) - set(agreeing)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=pathlib.Path)
    parser.add_argument("--all", action="store_true", help="name every file and its column")
    arguments = parser.parse_args()
    table: dict[str, collections.Counter[str]] = {}
    warnings.simplefilter("ignore")
    for path in images.find(arguments.folders):
        with quiet():
            kind, column, remark = judge(path)
        table.setdefault(kind, collections.Counter())[column] += 1
        if arguments.all or column in ("called damaged", "contradicted"):
            print(f"{column}: {path}: {remark}")
    print("\n| format | files | " + " | ".join(COLUMNS) + " |")
    print("|---" * (len(COLUMNS) + 2) + "|")
    for kind, counts in sorted(table.items()):
        cells = [str(counts[column]) for column in COLUMNS]
        print(f"| {kind} | {sum(counts.values())} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
