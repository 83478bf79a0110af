"""What a broker's octets say of publishes, read by pamqp one whole frame after the other."""

import struct
from typing import NamedTuple

import pamqp.frame
from pamqp import commands

FRAME_MAX = 131072
HEADER_LIMIT = 65536
RETURN_LIMIT = 774
CONNECTION_CLOSE = struct.pack(">I", commands.Connection.Close.index)
CHANNEL_CLOSE = struct.pack(">I", commands.Channel.Close.index)


class Heard(NamedTuple):
    """What was told in order, what others get, and whether it ended in an error."""

    told: list[tuple]
    others: bytes
    broken: bool


class Told(list):
    """Is told what a broker says, and remembers it."""

    def acked(self, tag: int, multiple: bool) -> None:
        self.append(("acked", tag, multiple))

    def nacked(self, tag: int, multiple: bool) -> None:
        self.append(("nacked", tag, multiple))

    def returned(self, header: bytes, reason: str) -> None:
        self.append(("returned", header, reason))


def read(channel: int, data: bytes) -> Heard:
    """All that can be said of `data`: its last frame may be in parts."""
    told: list[tuple] = []
    others = b""
    reason = ""
    closed = False
    while len(data) >= 7:
        kind, number, size = struct.unpack(">BHI", data[:7])
        frame, data = data[: size + 8], data[size + 8 :]
        whole = len(frame) == size + 8
        if size + 8 > FRAME_MAX:
            return Heard(told, others, True)
        if kind == 1 and number == 0 and frame[7:11] == CONNECTION_CLOSE:
            closed = True
        if number != channel or kind not in (1, 2, 3) or (kind == 1 and size < 4):
            others += frame
        elif kind == 2:
            if closed or size > HEADER_LIMIT or (whole and frame[-1] != 0xCE):
                return Heard(told, others, True)
            if whole:
                told.append(("returned", frame, reason))
        elif kind == 1 and len(frame) >= 11:
            (method,) = struct.unpack(">I", frame[7:11])
            if method in (commands.Basic.Ack.index, commands.Basic.Nack.index):
                if closed or size != 13 or (whole and frame[-1] != 0xCE):
                    return Heard(told, others, True)
                if whole:
                    found = pamqp.frame.unmarshal(frame)[2]
                    word = "acked" if isinstance(found, commands.Basic.Ack) else "nacked"
                    tag = found.delivery_tag % 2**64  # pamqp reads it signed
                    told.append((word, tag, found.multiple))
            elif method == commands.Basic.Return.index:
                text = frame[14 : 14 + frame[13]] if whole and size > 6 else b""
                if (
                    closed
                    or size > RETURN_LIMIT
                    or (whole and (frame[-1] != 0xCE or size <= 6 or size <= 6 + frame[13]))
                ):
                    return Heard(told, others, True)
                if whole:
                    code = int.from_bytes(frame[11:13])
                    reason = f"{code} {text.decode(errors='replace')}"
            else:
                closed = closed or frame[7:11] == CHANNEL_CLOSE
                others += frame
        if not whole:
            break
    return Heard(told, others, False)
