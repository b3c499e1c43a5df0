#ifndef STRATA_TESTS_COMMON_TRACE_TRACE_FILE_H_
#define STRATA_TESTS_COMMON_TRACE_TRACE_FILE_H_

#include <gtest/gtest.h>
#include <stdlib.h>  // NOLINT(modernize-deprecated-headers): mkdtemp

#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "common/trace/tracer.h"

namespace strata::trace::testing {

// A tracer that writes to a file of its own, and what it wrote.
class TraceFile {
 public:
  TraceFile() {
    std::string pattern = ::testing::TempDir() + "/strata_trace_XXXXXX";
    EXPECT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    auto tracer = Tracer::Start({.file = (folder_ / "spans.jsonl").string()}, {"test", "1"});
    EXPECT_TRUE(tracer.ok()) << tracer.status();
    if (tracer.ok()) tracer_ = *std::move(tracer);
  }
  ~TraceFile() { std::filesystem::remove_all(folder_); }
  TraceFile(const TraceFile&) = delete;
  TraceFile& operator=(const TraceFile&) = delete;

  Tracer* tracer() { return tracer_.get(); }
  // Ends the tracer, whom nobody may use any more.
  std::string Text() {
    tracer_.reset();
    std::ifstream file(folder_ / "spans.jsonl");
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
  }
  // The spans in the order in which they ended; ends the tracer.
  std::vector<nlohmann::json> Spans() {
    std::vector<nlohmann::json> spans;
    std::istringstream lines(Text());
    for (std::string line; std::getline(lines, line);) {
      const nlohmann::json request = nlohmann::json::parse(line);
      for (const auto& span : request["resourceSpans"][0]["scopeSpans"][0]["spans"]) {
        spans.push_back(span);
      }
    }
    return spans;
  }

 private:
  std::filesystem::path folder_;
  std::unique_ptr<Tracer> tracer_;
};

inline std::vector<nlohmann::json> Named(const std::vector<nlohmann::json>& spans,
                                         const std::string& name) {
  std::vector<nlohmann::json> found;
  for (const nlohmann::json& span : spans) {
    if (span["name"] == name) found.push_back(span);
  }
  return found;
}

// Fails unless there is just one.
inline nlohmann::json ChildOf(const std::vector<nlohmann::json>& spans, const std::string& parent,
                              const std::string& name) {
  nlohmann::json found;
  for (const nlohmann::json& span : Named(spans, name)) {
    if (span.value("parentSpanId", "") != parent) continue;
    EXPECT_TRUE(found.is_null()) << "two " << name << " below " << parent;
    found = span;
  }
  EXPECT_FALSE(found.is_null()) << "no " << name << " below " << parent;
  return found;
}

// The attributes' values, integers as numbers.
inline std::map<std::string, nlohmann::json> AttributesOf(const nlohmann::json& span) {
  std::map<std::string, nlohmann::json> attributes;
  const nlohmann::json list = span.value("attributes", nlohmann::json::array());
  for (const auto& attribute : list) {
    const auto value = attribute["value"].begin();
    attributes[attribute["key"]] =
        value.key() == "intValue" ? nlohmann::json(std::stoll(value->get<std::string>())) : *value;
  }
  return attributes;
}

inline int64_t StartOf(const nlohmann::json& span) {
  return std::stoll(span["startTimeUnixNano"].get<std::string>());
}
inline int64_t EndOf(const nlohmann::json& span) {
  return std::stoll(span["endTimeUnixNano"].get<std::string>());
}

}  // namespace strata::trace::testing

#endif  // STRATA_TESTS_COMMON_TRACE_TRACE_FILE_H_
