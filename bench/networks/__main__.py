"""Write networks as ONNX files: ``python -m bench.networks [NAME ...] --folder DIR``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench.networks import NETWORKS
from bench.networks.count import multiply_adds, parameters


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m bench.networks", description=(__doc__ or "").partition(":")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NETWORKS)} (default: all)")
    parser.add_argument("--folder", type=Path, default=Path(), metavar="DIR", help="where to (default: here)")
    parser.add_argument("--batch", type=int, default=1, help="images in a run (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the weights (default %(default)s)")
    options = parser.parse_args(arguments)
    for name in options.names:
        if name not in NETWORKS:
            parser.error(f"NAME: {name!r} is none of {', '.join(NETWORKS)}")
    if options.batch < 1:
        parser.error(f"--batch: {options.batch} is not at least 1")
    if options.seed < 0:
        parser.error(f"--seed: {options.seed} is negative")
    options.folder.mkdir(parents=True, exist_ok=True)
    for name in options.names or NETWORKS:
        model = NETWORKS[name].build(options.batch, options.seed)
        path = options.folder / f"{name}.onnx"
        path.write_bytes(model.SerializeToString())
        size = path.stat().st_size
        print(
            f"{path}: {1e-6 * parameters(model):.3g} M parameters, {1e-6 * multiply_adds(model):.4g} M multiply-adds, "
            f"{1e-6 * size:.3g} MB"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
