#!/usr/bin/env python3
"""Writes common/tokenizer/unicode_additions.cc to standard output.

PCRE2 10.42 knows Unicode 14, the regular expressions of PyPI `tokenizers` know
Unicode 16. Lists the characters that the latter puts into a general category and
that are unassigned in the former (Python 3.11's unicodedata is Unicode 14, too).
"""

import unicodedata

from tokenizers import Regex, pre_tokenizers

assert unicodedata.unidata_version == "14.0.0", unicodedata.unidata_version
NEW = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000 and unicodedata.category(chr(c)) == "Cn"]
CATEGORIES = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So".split()


def members(category):
    split = pre_tokenizers.Split(Regex(r"\p{%s}" % category), "removed")
    found = []
    for at in range(0, len(NEW), 4096):
        block = "".join(map(chr, NEW[at : at + 4096]))
        kept = {c for _, (begin, end) in split.pre_tokenize_str(block) for c in block[begin:end]}
        found += [ord(c) for c in block if c not in kept]
    return found


def ranges(codes):
    out = []
    for c in codes:
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


print("// Made by tests/common/unicode_additions.py; do not edit.")
print('#include "common/tokenizer/unicode_additions.h"\n')
print("namespace strata::tokenizer {\n")
print("const std::vector<CategoryRange>& UnicodeAdditions() {")
print("  static const std::vector<CategoryRange>& ranges = *new std::vector<CategoryRange>{")
for category in CATEGORIES:
    for first, last in ranges(members(category)):
        print(f'      {{"{category}", 0x{first:X}, 0x{last:X}}},')
print("  };\n  return ranges;\n}\n")
print("}  // namespace strata::tokenizer")
