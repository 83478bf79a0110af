"""Makes docs/settings.md from the declarations: `python -m fastsmtp.process.settings_page`."""

from fastsmtp.process import mailerq
from fastsmtp.process.config import DEFAULT_FILE, PREFIX, SETTINGS

_INTRODUCTION = f"""\
# Settings

<!-- Made by `python -m fastsmtp.process.settings_page`; edit fastsmtp/settings.py instead. -->

Every setting has one key, and may come from any of these sources; a later one wins:

1. the default below;
2. `{DEFAULT_FILE}`, if it exists;
3. each `--config-file PATH`, in turn;
4. the environment: `{PREFIX}SMTP_PORT=25` (upper case, `_` for `-`);
5. the command line: `--smtp-port 25`.

A config file holds one `key: value` a line. A line that begins with `#` is a comment; a `#`
inside a value is part of it. An empty value means the default. Where a key comes twice in one
source, the last one holds, and a warning says so.

Any value may be `@/path/to/file` (an absolute path): the value is what that file holds. Use it
for passwords: a command line and an environment can be read by others.

Kubernetes sets variables such as `{PREFIX}SMTP_PORT=tcp://10.0.0.1:25` for a service whose name
begins with `fastsmtp`. They are ignored, and one warning names them.

`fastsmtp check` shows every error of all sources at once and exits 2, or shows the settings that
hold, passwords masked. The daemon does the same before it opens a port.

## Values

- **Size**: bytes, or a number with `B`, `KB`, `MB` or `GB` (powers of 1024), in any case.
- **Duration**: seconds, or a number with `ms`, `s`, `m` or `h`.
- **Yes or no**: `true`, `yes`, `on`, `1`; `false`, `no`, `off`, `0`.
- **Addresses and ranges**: IPv4 or IPv6, a range as CIDR, with `;` between.
- **Ports**: `25,2525,1024-1026`.
"""

_MAILERQ = f"""
## Files of MailerQ

A config file of MailerQ can be used as it is, and its keys are taken from the environment and
the command line too. These names are taken as settings of this page:

%s
- `{mailerq.CONNECTIONS_IN}` is taken as `smtp-connections`. Where both are given, the smaller one
  holds.
- %s together make `rabbitmq-address`. Each value is raw: nothing in it is percent-encoded.
  `rabbitmq-host` is a list of `host` or `host:port` with `,` between; what is missing is as in the
  default address. It is an error if `rabbitmq-address` names another broker, unless it stands in a
  later source.

An empty value under such a name takes nothing back that was given under another name.

Every other key of MailerQ is named in a warning. These ask for something that is not done:

| keys | what is not done |
| --- | --- |
%s
The others have no meaning here:

| keys | why |
| --- | --- |
%s"""


def _mailerq() -> str:
    tables = (
        "".join(
            f"| {', '.join(f'`{key}`' for key in keys.split())} | {why} |\n"
            for why, keys in group.items()
        )
        for group in (mailerq.NOT_DONE, mailerq.NO_MEANING)
    )
    aliases = "\n".join(f"- `{old}` is taken as `{new}`" for old, new in mailerq.ALIASES.items())
    return _MAILERQ % (aliases, ", ".join(f"`{key}`" for key in mailerq.BROKER_PARTS), *tables)


def page() -> str:
    """The text of docs/settings.md."""
    parts = [_INTRODUCTION]
    group = ""
    for key, about in SETTINGS.items():
        if about.group != group:
            group = about.group
            parts.append(f"\n## {group}\n\n| key | default | meaning |\n| --- | --- | --- |\n")
        default = f"`{about.default}`" if about.default else about.shown_default
        parts.append(f"| `{key}` | {default} | {about.meaning} |\n")
    parts.append(_mailerq())
    return "".join(parts)


if __name__ == "__main__":
    print(page(), end="")
