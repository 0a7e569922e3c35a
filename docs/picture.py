#!/usr/bin/env python3
"""Draws docs/conversation.svg from what the demo prints.

    cargo run --example demo | docs/picture.py > docs/conversation.svg

Long messages are cut, and what only the demo's throwaway server is called by is made shorter. Only the standard library is used; fonts are those of whoever looks at it.
"""

import html
import re
import sys
import textwrap

WIDTH, MARGIN, LINE, FONT = 760, 20, 20, 14
COLUMNS = 92
LINES_MAX = 16
COLOURS = {"maria": "#9c5fd6", "roomlift": "#2f7d5b"}


def readable(line):
    """Without the numbers of the throwaway server, and without the markup that tests the bot."""
    line = re.sub(r"localhost:\d+", "example.org", line)
    line = re.sub(r"([@#][a-z]+)(-[a-z]+)?-\d+(?=:)", r"\1", line)
    line = re.sub(r"(![\w-]{8})[\w-]*", r"\1…", line)
    return re.sub(r"</?b>", "", line)


def conversation(lines):
    """Messages as [who, lines, reactions], edits applied, oldest first."""
    messages, current = [], None
    for line in map(readable, map(str.rstrip, lines)):
        # One room is enough for a picture; the demo goes on.
        if line.startswith("--- Two come over"):
            break
        who, _, rest = line.partition(" ")
        if line.startswith("  ") and current is not None:
            current[1].append(line[2:])
        elif line in COLOURS:
            current = [line, [], []]
            messages.append(current)
        elif rest == "(edited)":
            # The newest message of theirs that begins alike is the one that is edited.
            current = [who, [], []]
            messages.append(current + ["edit"])
        elif rest.startswith("reacts "):
            emoji, _, about = rest.removeprefix("reacts ").partition(" to: ")
            for message in reversed(messages):
                if message[1] and message[1][0].startswith(about.rstrip("…")):
                    message[2].append((who, emoji))
                    break
            current = None
        elif rest.startswith("takes back: "):
            emoji, _, about = rest.removeprefix("takes back: ").partition(" on ")
            for message in reversed(messages):
                if message[1] and message[1][0].startswith(about.rstrip("…")):
                    message[2] = [seen for seen in message[2] if seen != (who, emoji)]
                    break
            current = None
        elif line:
            current = None
    shown = []
    for message in messages:
        if len(message) == 3:
            shown.append(message)
            continue
        begin = message[1][0].split(":")[0]
        for earlier in reversed(shown):
            if earlier[0] == message[0] and earlier[1][0].split(":")[0] == begin:
                earlier[1] = message[1]
                break
    return shown


def wrapped(lines):
    """The lines as wide as the picture, and not too many."""
    result = []
    for line in lines:
        result += textwrap.wrap(line, COLUMNS, subsequent_indent="    ") or [""]
    if len(result) > LINES_MAX:
        result = result[: LINES_MAX - 1] + ["…"]
    return result


def draw(messages):
    """The picture."""
    parts, y = [], MARGIN + 6

    def text(x, content, colour, weight="normal", size=FONT):
        parts.append(
            f'<text x="{x}" y="{y}" fill="{colour}" font-weight="{weight}" '
            f'font-size="{size}" xml:space="preserve">{html.escape(content)}</text>'
        )

    for who, lines, reactions in messages:
        y += LINE
        text(MARGIN, who, COLOURS[who], "bold")
        for line in wrapped(lines):
            y += LINE
            text(MARGIN, line, "#1f2328")
        if reactions:
            y += 8
            x, counts = MARGIN, {}
            for _, emoji in reactions:
                counts[emoji] = counts.get(emoji, 0) + 1
            for emoji, count in counts.items():
                parts.append(
                    f'<rect x="{x}" y="{y}" width="46" height="24" rx="12" '
                    f'fill="#eef1f4" stroke="#d0d7de"/>'
                )
                y += 17
                text(x + 8, f"{emoji} {count}", "#1f2328", size=13)
                y -= 17
                x += 54
            y += 20
        y += 12
    height = y + MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" role="img" '
        'font-family="system-ui, -apple-system, Segoe UI, Roboto, Noto Sans, DejaVu Sans, sans-serif">\n'
        "<title>A moderator has Roomlift upgrade a room</title>\n"
        f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="10" '
        'fill="#ffffff" stroke="#d0d7de"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


if __name__ == "__main__":
    sys.stdout.write(draw(conversation(sys.stdin)))
