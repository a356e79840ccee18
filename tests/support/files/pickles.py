"""Pickles and TorchScript archives written opcode by opcode, for tests."""

import zipfile


def written(path, data: bytes, records=(("0", bytes(24)),), *, compressed=(), extra=()):
    """A zip with the marks of a TorchScript archive round this pickle."""
    with zipfile.ZipFile(path, "w") as made:
        for name, content in (
            ("data.pkl", data),
            ("constants.pkl", b"\x80\x02)."),
            ("code/__torch__.py", b""),
            *((f"data/{name}", content) for name, content in records),
            *extra,
        ):
            how = zipfile.ZIP_DEFLATED if name in compressed else zipfile.ZIP_STORED
            made.writestr(f"a/{name}", content, compress_type=how)
    return path


def text(value: str) -> bytes:
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


def number(value: int) -> bytes:
    return b"\x8a\x0a" + value.to_bytes(10, "little", signed=True)


def numbers(*values: int) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def tensor(shape=(2, 3), stride=(3, 1), offset=0, length=6, record="0", kind="torch FloatStorage") -> bytes:
    storage = b"(" + text("storage") + b"c" + kind.replace(" ", "\n").encode() + b"\n" + text(record) + text("cuda:0")
    storage += number(length) + b"tQ"
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + storage
        + number(offset)
        + numbers(*shape)
        + numbers(*stride)
        + b"\x89ccollections\nOrderedDict\n)RtR"
    )


def module(**parts: bytes) -> bytes:
    return b"c__torch__\nCLIP\n)\x81}(" + b"".join(text(name) + value for name, value in parts.items()) + b"ub"


def pickled(body: bytes) -> bytes:
    return b"\x80\x02" + body + b"."
