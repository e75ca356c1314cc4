"""Give model folders their `model.onnx`, or make it anew where it no longer follows from the weights; amends manifests.

python tools/add_onnx.py                  # all bundled models; then: python tools/make_index.py
python tools/add_onnx.py ZOO/model ...    # these
python tools/add_onnx.py --force          # write every file again, say after the exporter changed

A folder that has its file is passed over, so that the command can be cut off and run again.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from sslprune.commands.shared import size
from sslprune.export.onnx_extra import onnx_package
from sslprune.zoo.manifest import Manifest
from sslprune.zoo.onnx import FILE, VERSION, write_finished
from sslprune.zoo.read import WEIGHTS
from sslprune.zoo.write import amend

BUNDLED = Path(__file__).resolve().parents[1] / "sslprune" / "zoo" / "bundled"


def main() -> None:
    """Amend the folders that need it, and say what the files take."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help="model folders (default: bundled ones)")
    parser.add_argument("--force", action="store_true", help="write files again that are up to date")
    args = parser.parse_args()
    for folder in args.folders or sorted(path.parent for path in BUNDLED.glob("*/manifest.json")):
        manifest = Manifest.load(folder)
        if args.force or not up_to_date(folder, manifest):
            manifest = amend(folder, {FILE: partial(write_finished, folder)})
        print(f"{manifest.name}: {size(manifest.files[FILE].size)}, weights {size(manifest.bytes)}", flush=True)


def up_to_date(folder: Path, manifest: Manifest) -> bool:
    """Whether the folder has a file that was made of its present weights."""
    if FILE not in manifest.files or not (folder / FILE).is_file():
        return False
    said = {each.key: each.value for each in onnx_package().load(folder / FILE).metadata_props}
    source = manifest.files[WEIGHTS].sha256
    return (said.get("sslprune.version"), said.get("sslprune.source_sha256")) == (VERSION, source)


if __name__ == "__main__":
    main()
