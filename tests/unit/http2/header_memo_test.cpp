// The memo must be invisible: whatever is remembered, the bytes on the wire mean the same to
// a peer that remembers nothing, and blocks of such a peer mean the same to us.
#include "http2/header_memo.h"

#include <gtest/gtest.h>
#include <nghttp2/nghttp2.h>

#include <random>
#include <string>
#include <vector>

#include "http2/hpack.h"

namespace weir::http2 {
namespace {

using Fields = std::vector<std::pair<std::string, std::string>>;
constexpr HeaderListLimits kLimits{64 * 1024, 100};

http::Headers headers(const Fields& fields) {
  http::Headers list;
  for (const auto& [name, value] : fields) list.add(name, value, name == "authorization");
  return list;
}

Fields fields(const http::Headers& list) {
  Fields all;
  for (const http::Field field : list) all.emplace_back(field.name, field.value);
  return all;
}

std::vector<uint8_t> encode(HpackEncoder& encoder, const http::Headers& list) {
  std::vector<uint8_t> block(encoder.prepare(list));
  block.resize(encoder.encode(block.data(), block.size()));
  return block;
}

// A peer by the book: nghttp2's coder alone.
class PlainDecoder {
 public:
  PlainDecoder() { nghttp2_hd_inflate_new(&inflater_); }
  ~PlainDecoder() { nghttp2_hd_inflate_del(inflater_); }
  PlainDecoder(const PlainDecoder&) = delete;
  PlainDecoder& operator=(const PlainDecoder&) = delete;
  // SETTINGS_HEADER_TABLE_SIZE as we announced it.
  void allow(uint32_t table_size) { nghttp2_hd_inflate_change_table_size(inflater_, table_size); }
  Fields decode(const std::vector<uint8_t>& block) {
    Fields all;
    const uint8_t* at = block.data();
    size_t left = block.size();
    for (int flags = 0; !(flags & NGHTTP2_HD_INFLATE_FINAL);) {
      nghttp2_nv field;
      const ssize_t used = nghttp2_hd_inflate_hd2(inflater_, &field, &flags, at, left, 1);
      if (used < 0) return {{"broken", std::to_string(used)}};
      at += used;
      left -= static_cast<size_t>(used);
      if (flags & NGHTTP2_HD_INFLATE_EMIT) {
        all.emplace_back(std::string(reinterpret_cast<char*>(field.name), field.namelen),
                         std::string(reinterpret_cast<char*>(field.value), field.valuelen));
      }
    }
    nghttp2_hd_inflate_end_headers(inflater_);
    return all;
  }

 private:
  nghttp2_hd_inflater* inflater_ = nullptr;
};

class PlainEncoder {
 public:
  PlainEncoder() { nghttp2_hd_deflate_new(&deflater_, 4096); }
  ~PlainEncoder() { nghttp2_hd_deflate_del(deflater_); }
  PlainEncoder(const PlainEncoder&) = delete;
  PlainEncoder& operator=(const PlainEncoder&) = delete;
  std::vector<uint8_t> encode(const Fields& list) {
    std::vector<nghttp2_nv> all;
    for (const auto& [name, value] : list) {
      all.push_back({reinterpret_cast<uint8_t*>(const_cast<char*>(name.data())),
                     reinterpret_cast<uint8_t*>(const_cast<char*>(value.data())), name.size(), value.size(),
                     NGHTTP2_NV_FLAG_NONE});
    }
    std::vector<uint8_t> block(nghttp2_hd_deflate_bound(deflater_, all.data(), all.size()));
    block.resize(
        static_cast<size_t>(nghttp2_hd_deflate_hd(deflater_, block.data(), block.size(), all.data(), all.size())));
    return block;
  }

 private:
  nghttp2_hd_deflater* deflater_ = nullptr;
};

const Fields kRequest{{":method", "POST"},   {":scheme", "http"}, {":path", "/a.B/C"},
                      {":authority", "v"},   {"te", "trailers"},  {"content-type", "application/grpc"},
                      {"user-agent", "test"}};

// Sections of a small vocabulary, so that they come again, in tables that fill up and overflow.
class RandomSections {
 public:
  explicit RandomSections(uint64_t seed) : random_(seed) {}
  Fields next() {
    if (below(4) != 0) return kinds_[below(kinds_.size())];
    Fields section = kRequest;
    section[2].second += std::to_string(below(50));
    for (size_t n = below(6); n > 0; --n)
      section.emplace_back("x-" + std::to_string(below(40)),
                           std::string(below(200), static_cast<char>('a' + below(26))));
    if (below(8) == 0) section.emplace_back("authorization", "Bearer " + std::to_string(below(3)));
    if (below(8) == 0) section.emplace_back("grpc-timeout", std::to_string(below(1000)) + "m");
    kinds_[below(kinds_.size())] = section;
    return section;
  }
  size_t below(size_t n) { return random_() % n; }

 private:
  std::mt19937_64 random_;
  std::vector<Fields> kinds_{12, kRequest};
};

TEST(HeaderMemo, IsInvisibleToPeersThatDecodeWhatWeEncode) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    RandomSections sections(seed);
    PlainEncoder from;
    HpackDecoder decoder(4096);
    std::vector<std::unique_ptr<HpackEncoder>> encoders;
    std::vector<std::unique_ptr<PlainDecoder>> to;
    for (int i = 0; i < 3; ++i) {
      encoders.push_back(std::make_unique<HpackEncoder>(4096));
      to.push_back(std::make_unique<PlainDecoder>());
    }
    for (int call = 0; call < 1000; ++call) {
      const Fields sent = sections.next();
      http::Headers relayed;
      ASSERT_EQ(decoder.decode(from.encode(sent), kLimits, relayed), HpackDecoder::Outcome::ok);
      ASSERT_EQ(fields(relayed), sent) << "seed " << seed << " call " << call;
      const size_t peer = sections.below(3);
      if (sections.below(100) == 0) {
        const auto size = static_cast<uint32_t>(sections.below(4097));
        to[peer]->allow(size);
        encoders[peer]->set_peer_table_size(size);
      }
      ASSERT_EQ(to[peer]->decode(encode(*encoders[peer], relayed)), sent) << "seed " << seed << " call " << call;
    }
  }
}

class Known : public testing::Test {
 protected:
  // The identity that `list` has for a decoder that was sent it four times.
  uint64_t identity_after_four(PlainEncoder& from, HpackDecoder& decoder, const Fields& list) {
    http::Headers decoded;
    for (int i = 0; i < 4; ++i)
      EXPECT_EQ(decoder.decode(from.encode(list), kLimits, decoded), HpackDecoder::Outcome::ok);
    EXPECT_EQ(fields(decoded), list);
    return decoded.identity();
  }
};

TEST_F(Known, WhatComesAgainHasAnIdentityAndARememberedCheck) {
  PlainEncoder from;
  HpackDecoder decoder(4096);
  http::Headers decoded;
  EXPECT_EQ(decoder.decode(from.encode(kRequest), kLimits, decoded), HpackDecoder::Outcome::ok);
  EXPECT_EQ(decoded.identity(), 0u) << "the first block fills the table";
  const uint64_t identity = identity_after_four(from, decoder, kRequest);
  EXPECT_NE(identity, 0u);
  ASSERT_NE(decoder.section(), nullptr);
  decoder.section()->trailers = true;
  EXPECT_EQ(identity_after_four(from, decoder, kRequest), identity);
  EXPECT_TRUE(decoder.section()->trailers);
}

TEST_F(Known, ConnectionsThatWentTheSameWayShareIt) {
  PlainEncoder one, two, other;
  HpackDecoder decoder_one(4096), decoder_two(4096), decoder_other(4096);
  EXPECT_EQ(identity_after_four(one, decoder_one, kRequest), identity_after_four(two, decoder_two, kRequest));
  identity_after_four(other, decoder_other, {{"x-first", "1"}});
  // Another table, the same content.
  EXPECT_EQ(identity_after_four(other, decoder_other, kRequest), identity_after_four(one, decoder_one, kRequest));
}

TEST_F(Known, TheSameBytesInAnotherTableMeanSomethingElse) {
  PlainEncoder one, two;
  HpackDecoder decoder_one(4096), decoder_two(4096);
  const uint64_t a = identity_after_four(one, decoder_one, {{"x-name", "a"}});
  const uint64_t b = identity_after_four(two, decoder_two, {{"x-name", "b"}});
  EXPECT_EQ(one.encode({{"x-name", "a"}}), two.encode({{"x-name", "b"}})) << "one indexed field each";
  EXPECT_NE(a, b);
}

TEST_F(Known, SecretsAreNotRemembered) {
  HpackEncoder from(4096);
  HpackDecoder decoder(4096);
  const http::Headers secret = headers({{":status", "200"}, {"authorization", "Bearer x"}});
  http::Headers decoded;
  for (int i = 0; i < 4; ++i)
    ASSERT_EQ(decoder.decode(encode(from, secret), kLimits, decoded), HpackDecoder::Outcome::ok);
  EXPECT_EQ(decoded.identity(), 0u);
  EXPECT_TRUE(decoded[1].sensitive);
}

TEST_F(Known, LimitsHoldForWhatIsRemembered) {
  PlainEncoder lenient;
  HpackDecoder decoder_lenient(4096);
  EXPECT_NE(identity_after_four(lenient, decoder_lenient, kRequest), 0u);
  http::Headers decoded;
  for (const HeaderListLimits tight : {HeaderListLimits{100, 100}, HeaderListLimits{64 * 1024, 3}}) {
    PlainEncoder from;
    HpackDecoder decoder(4096);
    for (int i = 0; i < 4; ++i)
      EXPECT_EQ(decoder.decode(from.encode(kRequest), tight, decoded), HpackDecoder::Outcome::too_large);
  }
}

TEST_F(Known, AChangedListIsNotTheOneThatWasRemembered) {
  PlainEncoder from;
  HpackDecoder decoder(4096);
  http::Headers decoded;
  for (int i = 0; i < 4; ++i) decoder.decode(from.encode(kRequest), kLimits, decoded);
  ASSERT_NE(decoded.identity(), 0u);
  const http::Headers copy = decoded;
  EXPECT_EQ(copy.identity(), decoded.identity());
  http::Headers changed = decoded;
  changed.set("te", "other");
  EXPECT_EQ(changed.identity(), 0u);
  changed = decoded;
  changed.add("x", "y");
  EXPECT_EQ(changed.identity(), 0u);
  changed = decoded;
  changed.remove("te");
  EXPECT_EQ(changed.identity(), 0u);
}

}  // namespace
}  // namespace weir::http2
