"""`fogguard-agent`: the command that runs on a device."""

import argparse
import sys
from pathlib import Path

import msgspec

from broker.errors import FogError
from broker.tls import files_of
from edge_agent.agent import run
from edge_agent.config import load_config
from edge_agent.service import HangUp, StopSignal, Supervisor, log_to_stderr


def main(arguments: list[str] | None = None) -> int:
    """Run an agent until SIGTERM or SIGINT; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="fogguard-agent",
        description="Serve as one node of a fogguard fleet until SIGTERM or Ctrl-C.",
        epilog="example: fogguard-agent --config /etc/fogguard/f1.json",
    )
    parser.add_argument("--config", type=Path, required=True, help="the node's JSON configuration")
    parser.add_argument(
        "--hung", action="store_true", help="only publish that the node hung; for systemd's ExecStopPost"
    )
    parser.add_argument(
        "--keys", type=Path, help="with --hung: the folder of its certificate and key, if not as configured"
    )
    parser.add_argument(
        "--self-test", action="store_true", help="only compare the graph's outputs with the bundle's golden ones"
    )
    parser.add_argument("--bundle", help="with --self-test: another bundle than the configuration's")
    parser.add_argument("--verbose", action="store_true", help="log more")
    options = parser.parse_args(arguments)
    log_to_stderr(verbose=options.verbose)
    try:
        config = load_config(options.config)
        if options.hung:
            from edge_agent.hung import report_hung  # what serves has no use for it

            tls = files_of(options.keys, config.node) if options.keys else config.tls
            report_hung(msgspec.structs.replace(config, tls=tls))
        elif options.self_test:
            from edge_agent.selftest import self_test  # nor for this

            bundle = options.bundle or config.bundle
            print(self_test(msgspec.structs.replace(config, bundle=bundle), _say))  # noqa: T201
        else:
            # Without a place for the next bundle, the end of its terminal ends it, as everything else that runs there.
            is_hung_up = HangUp() if config.next else lambda: False
            run(config, Supervisor(), StopSignal().__bool__, is_hung_up)
    except FogError as error:
        print(f"fogguard-agent: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    return 0


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
