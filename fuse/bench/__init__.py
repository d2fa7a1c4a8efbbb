"""``craqen bench fs``: the mount measured beside an empty pyfuse3 file system, in one run."""
