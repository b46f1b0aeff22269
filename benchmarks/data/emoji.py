"""Drawings of the same things by five artists, in colour, with alpha: where they come from, and how they are split.

npm fetches what the folder lacks (10 MB). The drawings are free to use, each under its own licence, and are not part of
this repository:

- Noto Emoji, Google, Apache-2.0: https://github.com/googlefonts/noto-emoji
- Twemoji, Twitter and others, CC-BY-4.0: https://github.com/jdecked/twemoji
- Fluent Emoji (flat), Microsoft, MIT: https://github.com/microsoft/fluentui-emoji
- Emoji One 2.3, now EmojiTwo, CC-BY-4.0: https://github.com/EmojiTwo/emojitwo
- OpenMoji, HfG Schwäbisch Gmünd, CC-BY-SA-4.0: https://github.com/hfg-gmuend/openmoji

Iconify's packages (https://iconify.design) give the SVG files of all five in one form.
"""
import hashlib
import io
import json
import os
import re
import tarfile
from pathlib import Path
from typing import Any, Dict, NamedTuple, Tuple

import numpy as np
from PIL import Image

from ..common.results import ROOT
from .fetch import fetch

FOLDER = ROOT / '.emoji'
PIXELS = 64  # height and width at which drawings are rendered
ARTISTS = {  # Iconify's package of each artist, and the licence that its info.json must state
    'noto': ('noto-1.2.9', 'Apache-2.0'),
    'twemoji': ('twemoji-1.2.5', 'CC-BY-4.0'),
    'fluent': ('fluent-emoji-flat-1.2.6', 'MIT'),
    'emojione': ('emojione-1.2.3', 'CC-BY-4.0'),
    'openmoji': ('openmoji-1.2.29', 'CC-BY-SA-4.0'),
}
UNSEEN = 'openmoji'  # the artist that no model is trained on
CATEGORIES = ('Animals & Nature', 'Food & Drink', 'Travel & Places', 'Activities', 'Objects')
# What names of many signs, scenes, weather and things that look like one another have in common. It leaves out some
# good things too (penguin, train), and leaves some scenes in (mount-fuji); what was measured is of this choice.
LEFT_OUT = re.compile(
    r'(oclock|-thirty|moon|sun|globe|cloud|night|city|map|rain|-sign|symbol|medal|mailbox|face|book|oncoming|-with-|'
    r'station|house|office|stadium|construction|clinking|wave|wind|folder|envelope|chart|calendar|pen|pin|speaker)')


class Drawings(NamedTuple):
    """Things as each artist draws them: colour (not multiplied by alpha), alpha [things, artists, 64, 64, 4] uint8."""
    images: np.ndarray
    things: Tuple[str, ...]
    artists: Tuple[str, ...]


class Split(NamedTuple):
    """Which drawings are used for what, pairs of (thing, artist) as indices [M, 2].

    In `train` all but one of each thing's drawings by the artists seen in training; in `other` the one that is left,
    whose artist goes round from thing to thing; in `unseen` every thing by the artist that is not seen in training.
    """
    train: np.ndarray
    other: np.ndarray
    unseen: np.ndarray


def load_drawings(folder: Path = FOLDER, classes: int = 100) -> Drawings:
    """Return things that all five artists draw, evenly spaced among them in Unicode's order.

    Args:
        folder: Holds what is rendered, or the packages as npm packs them (iconify-json-noto-1.2.9.tgz, ...); those that
            are missing are fetched by npm.
        classes: Number of things.

    Raises:
        FileNotFoundError: If a package is missing and npm cannot fetch it.
        ValueError: If a package states another licence than is written here, or classes is out of range.
    """
    choice = repr((PIXELS, ARTISTS, CATEGORIES, LEFT_OUT.pattern)).encode()
    rendered = folder / f'drawings-{hashlib.sha256(choice).hexdigest()[:12]}.npz'
    if not rendered.is_file():
        _render_all(folder, rendered)
    saved = np.load(rendered)
    things = saved['things']
    if not 2 <= classes <= len(things):
        raise ValueError(f'classes must be in [2, {len(things)}], the number of things that all draw, got {classes}')
    chosen = np.linspace(0, len(things) - 1, classes).round().astype(int)
    return Drawings(saved['images'][chosen], tuple(things[chosen].tolist()), tuple(saved['artists'].tolist()))


def split_drawings(drawings: Drawings) -> Split:
    """Return the split of drawings, the same for every seed."""
    unseen = drawings.artists.index(UNSEEN)
    seen = [artist for artist in range(len(drawings.artists)) if artist != unseen]
    left = [seen[thing % len(seen)] for thing in range(len(drawings.things))]
    return Split(
        np.array([(thing, artist) for artist in seen for thing in range(len(left)) if artist != left[thing]]),
        np.array(list(enumerate(left))), np.array([(thing, unseen) for thing in range(len(left))]))


def _render_all(folder: Path, path: Path) -> None:
    icons = {artist: _read_package(folder, *package) for artist, package in ARTISTS.items()}
    with tarfile.open(_fetch(folder, ARTISTS['noto'][0])) as archive:
        categories = json.load(archive.extractfile('package/metadata.json'))['categories']
    things = [
        thing for category in CATEGORIES for thing in categories[category]
        if not LEFT_OUT.search(thing) and all(thing in found for found in icons.values())]
    images = np.array([[_render(found[thing]) for found in icons.values()] for thing in things])
    temporary = path.with_name(f'{os.getpid()}.npz')
    np.savez_compressed(temporary, images=images, things=np.array(things), artists=np.array(list(icons)))
    os.replace(temporary, path)


def _fetch(folder: Path, package: str) -> Path:
    """Return the file of a package, fetched if need be."""
    name, version = package.rsplit('-', 1)
    file = f'iconify-json-{package}.tgz'
    return fetch(folder / file, f'npm pack @iconify-json/{name}@{version}', file)


def _read_package(folder: Path, package: str, licence: str) -> Dict[str, str]:
    """Return {thing: SVG text} of an artist, aliases of names included."""
    path = _fetch(folder, package)
    with tarfile.open(path) as archive:
        info, icons = (json.load(archive.extractfile(f'package/{name}.json')) for name in ('info', 'icons'))
    if info['license']['spdx'] != licence:
        raise ValueError(f"{path} must be under licence {licence}, it states {info['license']['spdx']}")
    own = icons['icons']
    names = {**{alias: entry['parent'] for alias, entry in icons.get('aliases', {}).items()}, **{k: k for k in own}}
    return {name: _svg(own[parent], icons) for name, parent in names.items() if parent in own}


def _svg(icon: Dict[str, Any], defaults: Dict[str, Any]) -> str:
    left, top, width, height = (
        icon.get(key, defaults.get(key, fallback))
        for key, fallback in (('left', 0), ('top', 0), ('width', 16), ('height', 16)))
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{left} {top} {width} {height}" width="{PIXELS}" height="{PIXELS}">{icon["body"]}</svg>')


def _render(svg: str) -> np.ndarray:
    import resvg_py
    png = resvg_py.svg_to_bytes(svg_string=svg)
    return np.asarray(Image.open(io.BytesIO(bytes(png))).convert('RGBA'))
