#!/usr/bin/env python3
"""Sums up test results: count_results.py FILE.xml:EXIT_STATUS…

Each FILE is a JUnit report of ctest or pytest, EXIT_STATUS what its runner exited with. The
failed and the skipped are listed; the last line is "N passed, N failed". Exits with 1 if
any failed or none passed. A runner that failed without a failed test in its report (it
crashed, found no tests, or wrote no report) counts as one failure.
"""

import sys
import xml.etree.ElementTree as ElementTree


def count(path: str, exit_status: int) -> tuple[int, list[str], list[str]]:
    """(passed, names of the failed, names of the skipped)."""
    passed, failed, skipped = 0, [], []
    try:
        cases = list(ElementTree.parse(path).iter("testcase"))
    except (OSError, ElementTree.ParseError) as error:
        return 0, [f"{path}: no report ({error})"], []
    for case in cases:
        name = f"{case.get('classname', '')}.{case.get('name', '')}"
        if case.find("failure") is not None or case.find("error") is not None:
            failed.append(name)
        elif case.find("skipped") is not None or case.get("status") in ("notrun", "disabled"):
            skipped.append(name)
        else:
            passed += 1
    if exit_status != 0 and not failed:
        failed.append(f"{path}: the test runner exited with {exit_status}")
    return passed, failed, skipped


def main(arguments: list[str]) -> int:
    passed, failed, skipped = 0, [], []
    for argument in arguments:
        path, _, status = argument.rpartition(":")
        result = count(path, int(status))
        passed += result[0]
        failed += result[1]
        skipped += result[2]
    for name in failed:
        print(f"failed: {name}")
    for name in skipped:
        print(f"skipped: {name}")
    print(f"{passed} passed, {len(failed)} failed")
    return 1 if failed or passed == 0 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
