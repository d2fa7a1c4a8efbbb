"""The store through fsspec, as pandas, pyarrow and others use it: python examples/fsspec_files.py
CONFIG

CONFIG is the store's configuration; `make up` writes it to run/effective.yaml in its data folder.
"""

import csv
import sys

import fsspec


def main() -> None:
    """Write a table by its URL, list it, and read a part of it."""
    files = fsspec.filesystem("craqen", config=sys.argv[1])
    files.makedirs("/fsspec-example/tables", exist_ok=True)
    with files.open("/fsspec-example/tables/cats.csv", "wt", newline="") as file:
        csv.writer(file).writerows([("name", "weight"), ("Tom", 4.2), ("Felix", 3.9)])
    for entry in files.ls("/fsspec-example/tables", detail=True):
        print(entry["name"], entry["size"])
    with files.open("/fsspec-example/tables/cats.csv", "rt") as file:
        weights = [float(row["weight"]) for row in csv.DictReader(file)]
    print(f"{sum(weights) / len(weights):.2f} kg on average")


if __name__ == "__main__":
    main()
