"""``craqen ls|stat|du|find|rm|mv|cp|restore``: files of the store from the command line, without a
mount. They ask the metadata directly: a folder of a thousand names is one read."""
