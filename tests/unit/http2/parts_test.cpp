// The parts under the connection, each by itself.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <unordered_map>

#include "endpoint.h"
#include "http2/stream_table.h"

namespace weir::http2::testing {
namespace {

TEST(StreamTableTest, BehavesAsAMap) {
  std::mt19937 random(1);
  StreamTable table;
  std::unordered_map<uint32_t, Stream*> model;
  uint32_t next = 1;
  std::vector<uint32_t> ids;
  for (int step = 0; step < 20000; ++step) {
    if (model.size() < 60 || random() % 2) {
      // Mostly neighbours, at times a jump, as a peer may choose.
      next += random() % 50 ? 2 : 2 * (random() % 1000);
      auto* stream = reinterpret_cast<Stream*>(uintptr_t{next} * 16);
      table.insert(next, stream);
      model[next] = stream;
      ids.push_back(next);
      next += 2;
    } else {
      const size_t at = random() % 3 ? 0 : random() % ids.size();
      const uint32_t id = ids[at];
      ids.erase(ids.begin() + static_cast<ptrdiff_t>(at));
      table.erase(id);
      model.erase(id);
      EXPECT_EQ(table.find(id), nullptr);
    }
    ASSERT_EQ(table.size(), model.size());
    const uint32_t probe = random() % (next + 10) | 1;
    const auto found = model.find(probe);
    ASSERT_EQ(table.find(probe), found == model.end() ? nullptr : found->second);
  }
  for (const auto& [id, stream] : model) ASSERT_EQ(table.find(id), stream);
}

TEST(StreamTableTest, AnAbsentIdIsHarmless) {
  StreamTable table;
  EXPECT_EQ(table.find(1), nullptr);
  table.erase(1);
  table.insert(1, reinterpret_cast<Stream*>(uintptr_t{16}));
  table.erase(3);
  table.erase(1 + 16);
  EXPECT_EQ(table.size(), 1u);
}

TEST(ClosedStreamsTest, RemembersTheLastOnes) {
  ClosedStreams closed;
  EXPECT_EQ(closed.ending(1), Ending::unknown);
  for (uint32_t id = 1; id < 400; id += 2) closed.remember(id, Ending::reset_by_us);
  closed.remember(397, Ending::ended_by_peer);
  EXPECT_EQ(closed.ending(399), Ending::reset_by_us);
  EXPECT_EQ(closed.ending(397), Ending::ended_by_peer);
  EXPECT_EQ(closed.ending(1), Ending::unknown);
  closed.remember(kMaxStreamId, Ending::reset_by_peer);
  EXPECT_EQ(closed.ending(kMaxStreamId), Ending::reset_by_peer);
}

std::string drain(Output& output, size_t at_a_time) {
  std::string bytes;
  while (!output.empty()) {
    std::array<iovec, 3> out;
    const size_t n = output.gather(out);
    size_t left = at_a_time;
    for (size_t i = 0; i < n && left > 0; ++i) {
      const size_t part = std::min(left, out[i].iov_len);
      bytes.append(static_cast<const char*>(out[i].iov_base), part);
      left -= part;
    }
    output.written(at_a_time - left);
  }
  return bytes;
}

TEST(OutputTest, KeepsOrderWhateverTheSizes) {
  for (const size_t at_a_time : {size_t{1}, size_t{1000}, size_t{100000}}) {
    std::mt19937 random(7);
    Output output;
    std::string expected;
    for (int i = 0; i < 60; ++i) {
      const size_t size = 1 + random() % 6000;
      const std::string part(size, static_cast<char>('a' + i % 26));
      expected += part;
      if (random() % 3 == 0) {
        std::copy(part.begin(), part.end(), output.reserve(size));
        output.commit(size);
      } else {
        output.append(slice_of(part));
      }
      EXPECT_EQ(output.size(), expected.size());
    }
    EXPECT_TRUE(drain(output, at_a_time) == expected);
    EXPECT_EQ(output.appended(), expected.size());
    EXPECT_EQ(output.exposed(), expected.size());
  }
}

TEST(OutputTest, AppendingBetweenGatherAndWritten) {
  Output output;
  output.append(slice_of("first"));
  std::array<iovec, 4> out;
  ASSERT_EQ(output.gather(out), 1u);
  output.append(slice_of("second"));
  EXPECT_EQ(std::string(static_cast<char*>(out[0].iov_base), out[0].iov_len), "first");
  output.written(5);
  EXPECT_EQ(output.size(), 6u);
  EXPECT_EQ(drain(output, 100), "second");
}

TEST(SendQueueTest, GivesBackWhatWasPushed) {
  std::mt19937 random(3);
  SendQueue queue;
  Output output;
  std::string expected;
  for (int i = 0; i < 500; ++i) {
    const std::string part(random() % 2 ? random() % 50 : random() % 9000, static_cast<char>('a' + i % 26));
    expected += part;
    queue.push(slice_of(part));
    if (random() % 4 == 0 && queue.bytes() > 0) queue.move_to(output, 1 + random() % queue.bytes());
  }
  queue.move_to(output, queue.bytes());
  EXPECT_TRUE(queue.empty());
  EXPECT_TRUE(drain(output, 5000) == expected);
}

TEST(PoolTest, BlocksComeBack) {
  for (const size_t size : {size_t{1}, size_t{64}, size_t{65}, size_t{16384}}) {
    void* block = pool::take(size);
    std::memset(block, 1, size);
    pool::give(block, size);
    void* again = pool::take(size);
    EXPECT_EQ(again, block) << size;
    pool::give(again, size);
  }
  void* large = pool::take(100000);
  std::memset(large, 1, 100000);
  pool::give(large, 100000);
  pool::give(nullptr, 100);
}

TEST(FrameTest, HeadersRoundTrip) {
  std::array<uint8_t, kFrameHeaderSize> bytes;
  write_frame_header(bytes.data(), 0xabcdef, FrameType::continuation, 0x5a, kMaxStreamId);
  const FrameHeader header = read_frame_header(bytes.data());
  EXPECT_EQ(header.length, 0xabcdefu);
  EXPECT_TRUE(header.is(FrameType::continuation));
  EXPECT_EQ(header.flags, 0x5a);
  EXPECT_EQ(header.stream_id, kMaxStreamId);
}

TEST(HpackTest, LimitsKeepTheTableInStep) {
  HpackEncoder encoder(4096);
  HpackDecoder decoder(4096);
  const auto block_of = [&](const Fields& fields) {
    const http::Headers headers = to_headers(fields);
    std::vector<uint8_t> block(encoder.prepare(headers));
    block.resize(encoder.encode(block.data(), block.size()));
    return block;
  };
  http::Headers out;
  const Fields fields = {{"a", "1"}, {"b", std::string(100, 'x')}, {"c", "3"}};
  EXPECT_EQ(decoder.decode(block_of(fields), HeaderListLimits{100, 10}, out), HpackDecoder::Outcome::too_large);
  out.clear();
  EXPECT_EQ(decoder.decode(block_of(fields), HeaderListLimits{1000, 2}, out), HpackDecoder::Outcome::too_large);
  out.clear();
  EXPECT_EQ(decoder.decode(block_of(fields), HeaderListLimits{1000, 3}, out), HpackDecoder::Outcome::ok);
  EXPECT_EQ(to_fields(out), fields);
}

TEST(HpackTest, ABombIsNotStored) {
  HpackEncoder encoder(4096);
  HpackDecoder decoder(4096);
  const http::Headers one = to_headers({{"bomb", std::string(2900, 'x')}});
  std::vector<uint8_t> block(encoder.prepare(one));
  block.resize(encoder.encode(block.data(), block.size()));
  // One entry of the dynamic table, named 60000 times by a byte each: 176 MB.
  block.insert(block.end(), 60000, 0x80 | 62);
  http::Headers out;
  EXPECT_EQ(decoder.decode(block, HeaderListLimits{65536, 100}, out), HpackDecoder::Outcome::too_large);
  EXPECT_LE(out.bytes(), 65536u);
}

// A peer that promises four gigabytes of table would have us keep as much of our own.
TEST(HpackTest, TheEncoderKeepsToItsOwnTableWhateverThePeerPromises) {
  constexpr uint32_t kTable = 4096;
  HpackEncoder encoder(kTable);
  encoder.set_peer_table_size(UINT32_MAX);
  HpackDecoder decoder(kTable);
  const auto name_of = [](size_t i) { return "x-" + std::to_string(1000 + i); };
  const std::string value(94, 'v');
  const size_t entry = name_of(0).size() + value.size() + 32;  // RFC 7541 section 4.1
  const auto size_of_block = [&](size_t i) {
    const http::Headers headers = to_headers({{name_of(i), value}});
    std::vector<uint8_t> block(encoder.prepare(headers));
    block.resize(encoder.encode(block.data(), block.size()));
    http::Headers out;
    EXPECT_EQ(decoder.decode(block, HeaderListLimits{1000, 10}, out), HpackDecoder::Outcome::ok);
    EXPECT_EQ(to_fields(out), to_fields(headers));
    return block.size();
  };
  constexpr size_t kFields = 200;
  for (size_t i = 0; i < kFields; ++i) EXPECT_GT(size_of_block(i), 3u);
  // What the table holds is named by its index, from the newest to the oldest; the next one is spelt out.
  for (size_t back = 1; back <= kTable / entry; ++back) ASSERT_LE(size_of_block(kFields - back), 3u) << back;
  EXPECT_GT(size_of_block(kFields - kTable / entry - 1), 3u);
}

}  // namespace
}  // namespace weir::http2::testing
