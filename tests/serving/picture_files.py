"""Image files of every kind that people have; written by PIL, or by hand where it cannot."""

import struct
import zlib

import numpy as np
from PIL import Image
from serving.conftest import encode

HEIGHT, WIDTH = 61, 83


def photo(seed=3, size=(HEIGHT, WIDTH)):
    """A colored gradient with noise: uint8 (H, W, 3)."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    image = np.stack([columns * 255 / size[1], rows * 255 / size[0], (rows + columns) % 97], -1)
    noise = np.random.default_rng(seed).normal(0, 12, (*size, 3))
    return (image + noise).clip(0, 255).astype("uint8")


PIXELS = photo()
PHOTO, ANOTHER = Image.fromarray(PIXELS), Image.fromarray(photo(5))
RGBA = Image.fromarray(np.dstack([PIXELS, PIXELS[..., 0]]))
PALETTE = PHOTO.convert("P", palette=Image.Palette.ADAPTIVE, colors=100)
RANDOM = np.random.default_rng(0).integers(0, 65536, (HEIGHT, WIDTH, 4))
ANIMATION = {"save_all": True, "append_images": [ANOTHER]}


# === By hand ===


def png(depth, color_type, rows, before=(), after=()):
    """A PNG of rows (H, bytes) with chunks (name, content) before and after the pixels."""

    def chunk(name, content):
        body = name + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    width = rows.shape[1] * 8 // depth // {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color_type]
    header = struct.pack(">IIBBBBB", width, len(rows), depth, color_type, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    chunks = [(b"IHDR", header), *before, (b"IDAT", pixels), *after, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*pair) for pair in chunks)


def bmp(bits, palette=b"", compression=0, masks=b"", colors=0, upside_down=False):
    """A BMP of random pixels."""
    stride = (WIDTH * bits + 31) // 32 * 4
    rows = np.random.default_rng(bits).integers(0, 256, HEIGHT * stride, "uint8").tobytes()
    start = 54 + len(masks) + len(palette)
    height = -HEIGHT if upside_down else HEIGHT
    header = struct.pack(
        "<IiiHHIIiiII", 40, WIDTH, height, 1, bits, compression, len(rows), 0, 0, colors, 0
    )
    file = struct.pack("<IHHI", start + len(rows), 0, 0, start)
    return b"BM" + file + header + masks + palette + rows


def colors(count):
    return np.random.default_rng(count).integers(0, 256, 4 * count, "uint8").tobytes()


def exif(value, type=3, little=True, count=1):
    """EXIF with another tag and the orientation: 3 is SHORT, 4 LONG, 1 BYTE."""
    end = "<" if little else ">"
    number = {3: "HH", 8: "hH", 4: "I", 9: "i", 13: "I", 11: "f"}.get(type, "BBH")
    values = [value, *[0] * (len(number) - 1)]
    entries = struct.pack(end + "HHI4s", 0x010F, 2, 2, b"x\0\0\0")
    entries += struct.pack(end + "HHI" + number, 0x0112, type, count, *values)
    start = b"II*\0" if little else b"MM\0*"
    return start + struct.pack(end + "IH", 8, 2) + entries + struct.pack(end + "I", 0)


def xmp(value):
    return b'<rdf:Description tiff:Orientation="%d"/>\xff' % value


def segment(marker, content):
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def exif_segment(*arguments, **options):
    return segment(0xE1, b"Exif\0\0" + exif(*arguments, **options))


def xmp_segment(value):
    return segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp(value))


def jpeg(*segments):
    file = encode(PHOTO)
    return file[:2] + b"".join(segments) + file[2:]


def without_adobe(file):
    start = file.index(b"\xff\xee")
    return file[:start] + file[start + 16 :]


def with_adobe_transform(file, transform):
    place = file.index(b"Adobe") + 11
    return file[:place] + bytes([transform]) + file[place + 1 :]


def with_sampling(file, factors):
    """Other factors for the first component; as many blocks as before must belong together."""
    place = file.index(b"\xff\xc0") + 11
    return file[:place] + bytes([factors]) + file[place + 1 :]


def with_screen(file, width, height):
    """A GIF whose first frame is smaller or larger than the picture."""
    return file[:6] + struct.pack("<HH", width, height) + file[10:]


# === Kinds of files, which both decoders read alike ===


def kinds():
    """{what it is: bytes}"""
    square = Image.fromarray(photo(size=(160, 160)))
    inks = Image.fromarray(RANDOM.astype("uint8"), "CMYK")
    deep = RANDOM.astype(">u2").view("uint8").reshape(HEIGHT, WIDTH, 8)
    bits = np.random.default_rng(1).integers(0, 256, (HEIGHT, 21), "uint8")
    masks = struct.pack("<III", 0xFF0000, 0xFF00, 0xFF)

    def rows(bytes_per_pixel):
        return deep[..., :bytes_per_pixel].reshape(HEIGHT, -1)

    return {
        **{f"JPEG, sampling {s}": encode(PHOTO, quality=90, subsampling=s) for s in range(3)},
        "JPEG, 4:4:0": with_sampling(encode(square, subsampling=1), 0x12),
        "JPEG, 4:1:1": with_sampling(encode(square, subsampling=2), 0x41),
        "JPEG, RGB": encode(PHOTO, keep_rgb=True),
        "JPEG, progressive": encode(PHOTO, progressive=True),
        "JPEG, grey": encode(PHOTO.convert("L")),
        "JPEG, CMYK": encode(inks),
        "JPEG, CMYK, no Adobe marker": without_adobe(encode(inks)),
        "JPEG, YCCK": with_adobe_transform(encode(inks), 2),
        "JPEG with rubbish after it": encode(PHOTO) + b"rubbish",
        "MPO": encode(PHOTO, "MPO", **ANIMATION),
        **{
            f"PNG, {image.mode}": encode(image, "PNG")
            for image in (PHOTO, RGBA, PALETTE, *(PHOTO.convert(m) for m in ("1", "L", "LA")))
        },
        "PNG, palette, transparent": encode(PALETTE, "PNG", transparency=bytes(range(100))),
        "PNG, 2 bits of palette": encode(PALETTE.quantize(4), "PNG", bits=2),
        "PNG, a transparent color": encode(
            PHOTO, "PNG", transparency=tuple(map(int, PIXELS[0, 0]))
        ),
        "PNG, 2 bits of grey": png(2, 0, bits),
        "PNG, 4 bits of grey": png(4, 0, bits),
        "PNG, 16 bits of grey": png(16, 0, rows(2)),
        "PNG, 16 bits of grey and alpha": png(16, 4, rows(4)),
        "PNG, 16 bits of RGB": png(16, 2, rows(6)),
        "PNG, 16 bits of RGBA": png(16, 6, rows(8)),
        "PNG with gamma": png(8, 2, PIXELS.reshape(HEIGHT, -1), [(b"gAMA", b"\0\1\x86\xa0")]),
        "PNG, animated": encode(PHOTO, "PNG", **ANIMATION),
        "GIF": encode(PHOTO, "GIF"),
        "GIF, transparent": encode(PALETTE, "GIF", transparency=5),
        "GIF, animated": encode(PHOTO, "GIF", **ANIMATION),
        "GIF, not interlaced": encode(PHOTO, "GIF", interlace=0),
        "GIF, many blocks": encode(photo(size=(300, 400)), "GIF", comment=b"x" * 1000),
        "BMP, palette": encode(PALETTE, "BMP"),
        "BMP, grey": encode(PHOTO.convert("L"), "BMP"),
        "BMP, 24 bits": bmp(24),
        "BMP, 32 bits": bmp(32),
        "BMP, 32 bits, masks": bmp(32, compression=3, masks=masks),
        "BMP, RGBA": encode(RGBA, "BMP"),
        "BMP, 8 bits": bmp(8, colors(256)),
        "BMP, 4 bits": bmp(4, colors(16)),
        "BMP, 1 bit": bmp(1, colors(2), colors=2),
        "BMP, top down": bmp(24, upside_down=True),
        "BMP, 8 bits, top down": bmp(8, colors(256), upside_down=True),
        "WebP": encode(PHOTO, "WEBP"),
        "WebP, lossless": encode(PHOTO, "WEBP", lossless=True),
        "WebP, alpha": encode(RGBA, "WEBP"),
        "WebP, lossless, alpha": encode(RGBA, "WEBP", lossless=True, exact=True),
        "WebP, animated": encode(PHOTO, "WEBP", **ANIMATION),
        "WebP, animated, alpha": encode(RGBA, "WEBP", **ANIMATION),
        "WebP, animated, lossless": encode(RGBA, "WEBP", lossless=True, **ANIMATION),
        "1x1": encode(PIXELS[:1, :1], "PNG"),
        "1x83": encode(PIXELS[:1]),
    }


def turned():
    """Files with an orientation: {what it is: (bytes, the orientation to be followed)}."""
    rows = PIXELS.reshape(HEIGHT, -1)
    far = [segment(0xE2, bytes(60_000))] * 5  # 300 KB
    block = Image.Exif()
    block[0x0112] = 6
    no_tag = segment(0xE1, b"Exif\0\0" + exif(6).replace(b"\x12\1", b"\x13\1"))
    files = {}
    for value in range(10):
        for little in (True, False):
            name = f"JPEG, {value}, {'little' if little else 'big'}-endian"
            files[name] = jpeg(exif_segment(value, little=little)), max(value % 9, 1)
    whole_numbers = (3, 4, 8, 9, 13)
    for type in (1, 2, *whole_numbers, 7, 11):
        for little in (True, False):
            name = f"JPEG, type {type}, {'little' if little else 'big'}-endian"
            followed = 6 if type in whole_numbers else 1
            files[name] = jpeg(exif_segment(6, type, little)), followed
    return {
        **files,
        "JPEG, after fill bytes": (jpeg(b"\xff" * 7, exif_segment(6)), 6),
        "JPEG, beyond 128 KB": (jpeg(*far, exif_segment(6)), 6),
        "JPEG, XMP before EXIF": (jpeg(xmp_segment(3), exif_segment(6)), 6),
        "JPEG, XMP alone": (jpeg(xmp_segment(6)), 6),
        "JPEG, XMP says 9": (jpeg(xmp_segment(9)), 1),
        "JPEG, EXIF without orientation, and XMP": (jpeg(no_tag, xmp_segment(6)), 6),
        "JPEG, EXIF of 0, and XMP": (jpeg(exif_segment(0), xmp_segment(6)), 1),
        "JPEG, EXIF ends before its directory, and XMP": (
            jpeg(segment(0xE1, b"Exif\0\0MM\0*\0\0\xff\0"), xmp_segment(6)),
            6,
        ),
        "JPEG, EXIF cut": (jpeg(segment(0xE1, b"Exif\0\0" + exif(6)[:30])), 1),
        "JPEG, EXIF is rubbish": (jpeg(segment(0xE1, b"Exif\0\0rubbish, rubbish")), 1),
        "PNG, EXIF before the pixels": (png(8, 2, rows, [(b"eXIf", exif(6))]), 6),
        "PNG, EXIF after the pixels": (png(8, 2, rows, (), [(b"eXIf", exif(6))]), 6),
        "PNG, XMP": (png(8, 2, rows, [(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(6))]), 6),
        "WebP, EXIF": (encode(PHOTO, "WEBP", exif=block, lossless=True), 6),
        "WebP, XMP": (encode(PHOTO, "WEBP", xmp=xmp(6), lossless=True), 6),
        "WebP, animated, EXIF": (
            encode(PHOTO, "WEBP", exif=block, lossless=True, **ANIMATION),
            6,
        ),
        "MPO, EXIF": (encode(PHOTO, "MPO", exif=block, **ANIMATION), 6),
    }


def unsupported():
    """Files that PIL reads and the graph refuses, because it would see other pixels."""
    rows = PIXELS.reshape(HEIGHT, -1)
    digits = b"\nexif\n%8d\n" % len(exif(6)) + exif(6).hex().encode() + b"\n"
    packed = b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(xmp(6))
    gif = encode(PHOTO, "GIF")
    return {
        "TIFF": encode(PHOTO, "TIFF"),
        "BMP, 16 bits": bmp(16),
        "BMP, 32 bits, other masks": bmp(
            32, compression=3, masks=struct.pack("<III", 0xFF000000, 0xFF0000, 0xFF00)
        ),
        "GIF, first frame smaller": with_screen(gif, WIDTH + 7, HEIGHT + 9),
        "GIF, first frame larger": with_screen(gif, WIDTH - 7, HEIGHT - 9),
        "PNG, EXIF as text": png(8, 2, rows, [(b"tEXt", b"Raw profile type exif\0" + digits)]),
        "PNG, XMP compressed": png(8, 2, rows, [(b"iTXt", packed)]),
        "JPEG, several orientations": jpeg(exif_segment(6, count=2)),
    }


def damaged():
    """Files that neither decoder reads."""
    file = encode(PHOTO)
    animation = encode(PHOTO, "WEBP", **ANIMATION)
    return {
        "nothing": b"",
        "one byte": b"\xff",
        "text": b"<html>not an image</html>",
        "JPEG, half": file[: len(file) // 2],
        "JPEG, header": file[:24],
        "PNG, cut": encode(PHOTO, "PNG")[:900],
        "GIF, cut": encode(PHOTO, "GIF")[:2000],
        "BMP, cut": bmp(24)[:2000],
        "WebP, cut": encode(PHOTO, "WEBP")[:500],
        "WebP, animated, cut": animation[:500],
        **{f"{kind}, signature": sign for kind, sign in SIGNATURES.items()},
    }


SIGNATURES = {
    "JPEG": b"\xff\xd8\xff",
    "PNG": b"\x89PNG\r\n\x1a\n",
    "GIF": b"GIF89a",
    "BMP": b"BM",
    "WebP": b"RIFF\0\0\0\0WEBPVP8X",
}


def huge():
    """A few bytes that declare 60000 x 60000 pixels: {what it is: bytes}."""
    side = 60_000
    file = encode(PHOTO)
    place = file.index(b"\xff\xc0") + 5
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunk = (
        struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    )
    canvas = (side - 1).to_bytes(3, "little") * 2
    gif = encode(PHOTO, "GIF")
    frame = gif.index(b"\x2c\0\0\0\0" + gif[6:10]) + 5
    gif = with_screen(gif, side, side)
    return {
        "JPEG": file[:place] + struct.pack(">HH", side, side) + file[place + 4 :],
        "PNG": b"\x89PNG\r\n\x1a\n" + chunk + encode(PHOTO, "PNG")[33:],
        "GIF": gif[:frame] + gif[6:10] + gif[frame + 4 :],
        "BMP": bmp(24)[:18] + struct.pack("<ii", side, side) + bmp(24)[26:] + bytes(4),
        "WebP": b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<II", 10, 0) + canvas,
    }
