#include "interception/redirect_gate.h"

#include <gtest/gtest.h>

namespace weir::interception {
namespace {

struct Case {
  KernelNames kernel;
  const char* upstream;  // "" : not known
  bool on;
};

const Case kCases[] = {
    {{"6.1.141", "#1 SMP", ""}, "6.1.141", false},
    {{"6.1.142", "#1 SMP", ""}, "6.1.142", true},
    {{"6.6.94", "#1 SMP", ""}, "6.6.94", false},
    {{"6.6.95+", "#1 SMP", ""}, "6.6.95", true},
    {{"6.12.34", "#1 SMP", ""}, "6.12.34", false},
    {{"6.12.35", "#1 SMP", ""}, "6.12.35", true},
    // Series that ended before the fixes.
    {{"6.2.200", "#1 SMP", ""}, "6.2.200", false},
    {{"6.13.12", "#1 SMP", ""}, "6.13.12", false},
    {{"6.14.11", "#1 SMP", ""}, "6.14.11", false},
    {{"5.15.190", "#1 SMP", ""}, "5.15.190", false},
    {{"6.15.0", "#1 SMP", ""}, "6.15.0", true},
    {{"6.15-rc7", "#1 SMP", ""}, "6.15.0", true},
    {{"6.18.44-fc-v657", "#1 SMP PREEMPT_DYNAMIC @0", ""}, "6.18.44", true},
    {{"7.0.0", "#1 SMP", ""}, "7.0.0", true},
    // Debian's release has the ABI's number, its version the upstream's.
    {{"6.1.0-41-cloud-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.158-1 (2025-11-09)", ""}, "6.1.158", true},
    {{"6.1.0-21-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.90-1 (2024-05-03)", ""}, "6.1.90", false},
    {{"6.12.41+deb13-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.12.41-1 (2025-08-12)", ""}, "6.12.41", true},
    // Ubuntu's stands in /proc/version_signature.
    {{"6.8.0-31-generic", "#31-Ubuntu SMP", "Ubuntu 6.8.0-31.31-generic 6.8.1"}, "6.8.1", false},
    {{"6.17.0-5-generic", "#5-Ubuntu SMP", "Ubuntu 6.17.0-5.5-generic 6.17.1"}, "6.17.1", true},
    {{"5.14.0-570.el9.x86_64", "#1 SMP", ""}, "5.14.0", false},
    {{"mine", "#1 SMP", "odd"}, "", false},
    {{"", "", ""}, "", false},
};

TEST(RedirectGate, GoesByTheUpstreamRelease) {
  for (const Case& c : kCases) {
    const auto version = upstream_version(c.kernel);
    EXPECT_EQ(version ? version->to_string() : "", c.upstream) << c.kernel.release;
    const RedirectState state = redirect_gate(RedirectSetting::automatic, c.kernel);
    EXPECT_EQ(state.on, c.on) << c.kernel.release << ": " << state.reason;
    EXPECT_NE(state.reason.find(c.upstream), std::string::npos) << state.reason;
  }
}

TEST(RedirectGate, TheFlagGoesFirst) {
  const KernelNames old{"6.1.90", "", ""}, young{"6.18.1", "", ""};
  EXPECT_TRUE(redirect_gate(RedirectSetting::on, old).on);
  EXPECT_FALSE(redirect_gate(RedirectSetting::off, young).on);
  EXPECT_EQ(redirect_gate(RedirectSetting::off, young).reason, "--redirect off");
}

}  // namespace
}  // namespace weir::interception
