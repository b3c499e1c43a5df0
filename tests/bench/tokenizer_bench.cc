// Texts a second of strata::Tokenizer on one thread. tokenizer_bench.py runs it beside
// PyPI `tokenizers`, and compares.
//
//   tokenizer_bench MODEL_DIR TEXTS [ROUNDS]
//
// TEXTS: for each text a little-endian uint32 length and its bytes. Prints one JSON object:
// the best round's seconds, and counts to compare.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "common/tokenizer/tokenizer.h"

namespace {

std::vector<std::string_view> Cut(std::string_view bytes) {
  std::vector<std::string_view> texts;
  uint32_t length = 0;
  while (bytes.size() >= sizeof(length)) {
    std::memcpy(&length, bytes.data(), sizeof(length));
    bytes.remove_prefix(sizeof(length));
    texts.push_back(bytes.substr(0, length));
    bytes.remove_prefix(texts.back().size());
  }
  return texts;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: tokenizer_bench MODEL_DIR TEXTS [ROUNDS]\n");
    return 2;
  }
  auto tokenizer = strata::Tokenizer::Load(argv[1]);
  if (!tokenizer.ok()) {
    std::fprintf(stderr, "%s\n", tokenizer.status().ToString().c_str());
    return 1;
  }
  std::ifstream in(argv[2], std::ios::binary);
  const std::string bytes(std::istreambuf_iterator<char>(in), {});
  const std::vector<std::string_view> texts = Cut(bytes);
  const int rounds = argc > 3 ? std::atoi(argv[3]) : 3;
  double best_encode = std::numeric_limits<double>::infinity();
  double best_decode = best_encode;
  size_t tokens = 0;
  size_t decoded_bytes = 0;
  for (int round = 0; round < rounds; ++round) {
    std::vector<std::vector<strata::TokenId>> ids(texts.size());
    const auto start = std::chrono::steady_clock::now();
    for (size_t i = 0; i < texts.size(); ++i) ids[i] = (*tokenizer)->Encode(texts[i], false);
    const auto middle = std::chrono::steady_clock::now();
    decoded_bytes = 0;
    for (const auto& list : ids) decoded_bytes += (*tokenizer)->Decode(list, false).size();
    const auto end = std::chrono::steady_clock::now();
    best_encode = std::min(best_encode, std::chrono::duration<double>(middle - start).count());
    best_decode = std::min(best_decode, std::chrono::duration<double>(end - middle).count());
    tokens = 0;
    for (const auto& list : ids) tokens += list.size();
  }
  std::printf(
      "{\"texts\": %zu, \"tokens\": %zu, \"decoded_bytes\": %zu, \"encode_s\": %.4f, "
      "\"decode_s\": %.4f}\n",
      texts.size(), tokens, decoded_bytes, best_encode, best_decode);
  return texts.empty() ? 1 : 0;
}
