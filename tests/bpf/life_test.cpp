// Loading, attaching, restarting, dying, uninstalling.
#include <bpf/bpf.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <map>

#include "diversion.h"
#include "inspect.h"

namespace weir::bpf_test {
namespace {

using interception::Programs;
using testing::HasSubstr;

const base::SocketAddress kService = address(kServiceIp4, kServicePort);
constexpr int kMaps = 15;
// The sk_msg program has a link since 6.10.
int links() { return kernel_is_older_than(6, 10) ? 9 : 10; }

class Life : public testing::Test {
 protected:
  // Enrols the pod as an agent does.
  void enrol(interception::Maps& maps) {
    ASSERT_TRUE(maps.set_pod(pod_.netns().cookie(), enrolled_row()).ok());
    beat(maps);
    ASSERT_TRUE(maps.set_service(kService, {WEIR_MODE_L7, 0, kGeneration}).ok());
  }
  base::Fd listen_as_agent(const interception::Maps& maps) {
    return agent_listener(pod_, maps, address("127.0.0.1", kListenerPort));
  }
  // Dials the service; says where the connection arrived.
  Where dial_once(const base::Fd& listener) {
    base::Fd client = pod_.socket(AF_INET);
    EXPECT_EQ(dial(client, kService), 0);
    EXPECT_EQ(peer_of(client), kService);
    Arrival arrived = accept_one({&listener}, {&plain_});
    return arrived.where;
  }

  Node node_;
  Pod pod_{node_};
  base::Fd plain_ = pod_.listen(kService);
};

TEST_F(Life, AttachesEveryHookOnceAndPinsPrivately) {
  Programs programs = load_and_attach(node_);
  for (int type : kPodHooks) EXPECT_EQ(Node::attached(node_.pods_cgroup(), type), 1) << type;
  EXPECT_EQ(Node::attached(node_.agent_cgroup(), BPF_CGROUP_SOCK_OPS), 1);
  EXPECT_EQ(Node::attached(node_.agent_cgroup(), BPF_CGROUP_INET4_CONNECT), 0);
  int files = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(node_.bpf_dir())) {
    struct stat status {};
    ASSERT_EQ(stat(entry.path().c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, S_ISDIR(status.st_mode) ? 0700u : 0600u) << entry.path();
    files += S_ISREG(status.st_mode);
  }
  EXPECT_EQ(files, kMaps + links()) << "maps and links";
}

TEST_F(Life, AgentBelowThePodsCgroupNeedsNoSecondSockops) {
  load_and_attach(node_);
  auto options = node_.options();
  options.agent_cgroup = options.pods_cgroup + "/agent";
  ASSERT_EQ(mkdir(options.agent_cgroup.c_str(), 0755), 0);
  auto programs = Programs::load(options);
  ASSERT_TRUE(programs.ok());
  ASSERT_TRUE(programs->attach().ok());
  EXPECT_EQ(Node::attached(node_.agent_cgroup(), BPF_CGROUP_SOCK_OPS), 0) << "the earlier one is gone";
  EXPECT_EQ(Node::attached(options.agent_cgroup, BPF_CGROUP_SOCK_OPS), 0);
  EXPECT_EQ(Node::attached(node_.pods_cgroup(), BPF_CGROUP_SOCK_OPS), 1);

  Node::join(options.agent_cgroup, getpid());
  enrol(programs->maps());
  base::Fd listener = listen_as_agent(programs->maps());
  base::Fd client = pod_.socket(AF_INET);
  ASSERT_EQ(dial(client, kService), 0);
  Arrival arrived = accept_one({&listener}, {&plain_});
  EXPECT_EQ(arrived.where, Where::agent);
  EXPECT_TRUE(programs->maps().original_destination(arrived.socket.get()).has_value());
  // Here the getpeername hooks run for the agent's sockets too, and must leave them alone.
  EXPECT_EQ(peer_of(arrived.socket).ip, address("127.0.0.1", 0).ip);
  EXPECT_EQ(name_of(arrived.socket), address("127.0.0.1", kListenerPort));
}

TEST_F(Life, RestartSwapsTheProgramsBehindTheSameLinks) {
  auto first = std::make_unique<Programs>(load_and_attach(node_));
  enrol(first->maps());
  base::Fd listener = listen_as_agent(first->maps());
  base::Fd client = pod_.socket(AF_INET);
  ASSERT_EQ(dial(client, kService), 0);
  Arrival arrived = accept_one({&listener}, {&plain_});
  ASSERT_EQ(arrived.where, Where::agent);
  auto links_before = links_in(node_.bpf_dir());
  auto maps_before = maps_in(node_.bpf_dir());

  first.reset();
  EXPECT_EQ(dial_once(listener), Where::agent) << "the hooks work without the loader";

  Programs second = load_and_attach(node_);
  EXPECT_EQ(maps_in(node_.bpf_dir()), maps_before);
  auto links_after = links_in(node_.bpf_dir());
  ASSERT_EQ(links_after.size(), links_before.size());
  for (const auto& [name, link] : links_after) {
    EXPECT_EQ(link.id, links_before[name].id) << name;
    EXPECT_NE(link.program_id, links_before[name].program_id) << name;
  }
  for (int type : kPodHooks) EXPECT_EQ(Node::attached(node_.pods_cgroup(), type), 1) << type;
  EXPECT_EQ(dial_once(listener), Where::agent);
  EXPECT_EQ(peer_of(client), kService) << "a connection from before";
  EXPECT_EQ(second.maps().flows()->size(), 1u);
  EXPECT_TRUE(second.maps().original_destination(arrived.socket.get()).has_value());
}

TEST_F(Life, KilledLoaderLeavesHooksThatPass) {
  int ready[2];
  ASSERT_EQ(pipe2(ready, O_CLOEXEC), 0);
  pid_t agent = fork();
  ASSERT_GE(agent, 0);
  if (agent == 0) {
    Programs programs = load_and_attach(node_);
    enrol(programs.maps());
    base::Fd listener = listen_as_agent(programs.maps());
    if (write(ready[1], "r", 1) != 1) _exit(1);
    for (;;) pause();
  }
  close(ready[1]);
  char byte;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  close(ready[0]);

  auto maps = interception::Maps::open(node_.bpf_dir());
  ASSERT_TRUE(maps.ok()) << maps.error().message;
  base::Fd client = pod_.socket(AF_INET);
  ASSERT_EQ(dial(client, kService), 0);
  EXPECT_EQ(maps->stats().value()[WEIR_STAT_HANDED_OVER], 1u);
  EXPECT_EQ(maps->flows()->size(), 1u);

  kill(agent, SIGKILL);
  waitpid(agent, nullptr, 0);
  EXPECT_EQ(dial_once(base::Fd()), Where::plain) << "the very next connect()";
  for (int type : kPodHooks) EXPECT_EQ(Node::attached(node_.pods_cgroup(), type), 1) << type;
  EXPECT_EQ(maps->stats().value()[WEIR_STAT_BYPASS_NO_LISTENER], 1u);
  EXPECT_EQ(maps->flows()->size(), 0u) << "the kernel reset it";
  EXPECT_EQ(maps->pending().value(), 0u);

  Programs next = load_and_attach(node_);
  base::Fd listener = listen_as_agent(next.maps());
  EXPECT_EQ(dial_once(listener), Where::agent) << "the row is still there, and the generation the same";
}

TEST_F(Life, UninstallLeavesNothing) {
  std::vector<uint32_t> link_ids, map_ids;
  {
    Programs programs = load_and_attach(node_);
    for (const auto& [name, link] : links_in(node_.bpf_dir())) link_ids.push_back(link.id);
    for (const auto& [name, id] : maps_in(node_.bpf_dir())) map_ids.push_back(id);
    enrol(programs.maps());
    base::Fd listener = listen_as_agent(programs.maps());
    base::Fd held(bpf_obj_get((node_.bpf_dir() + "/v1/links/weir_connect4").c_str()));
    ASSERT_TRUE(Programs::uninstall(node_.bpf_dir()).ok());
    EXPECT_EQ(dial_once(listener), Where::plain) << "though a link is still held, the hook is gone";
  }
  ASSERT_EQ(link_ids.size(), static_cast<size_t>(links()));
  ASSERT_EQ(map_ids.size(), static_cast<size_t>(kMaps));
  EXPECT_FALSE(std::filesystem::exists(node_.bpf_dir()));
  for (int type : kPodHooks) EXPECT_EQ(Node::attached(node_.pods_cgroup(), type), 0) << type;
  EXPECT_EQ(Node::attached(node_.agent_cgroup(), BPF_CGROUP_SOCK_OPS), 0);
  for (uint32_t id : link_ids) EXPECT_TRUE(gone([id] { return bpf_link_get_fd_by_id(id); })) << id;
  for (uint32_t id : map_ids) EXPECT_TRUE(gone([id] { return bpf_map_get_fd_by_id(id); })) << id;
  EXPECT_TRUE(Programs::uninstall(node_.bpf_dir()).ok()) << "twice is fine";
}

TEST_F(Life, UninstallRemovesOtherAbiVersionsToo) {
  load_and_attach(node_);
  std::string later = node_.bpf_dir() + "/v2";
  ASSERT_EQ(rename((node_.bpf_dir() + "/v1").c_str(), later.c_str()), 0);
  ASSERT_TRUE(Programs::uninstall(node_.bpf_dir()).ok());
  EXPECT_FALSE(std::filesystem::exists(node_.bpf_dir()));
  for (int type : kPodHooks) EXPECT_EQ(Node::attached(node_.pods_cgroup(), type), 0) << type;
}

TEST_F(Life, UninstallTouchesNothingOutsideBpffs) {
  char directory[] = "/tmp/weir-bpf-test-XXXXXX";
  ASSERT_NE(mkdtemp(directory), nullptr);
  EXPECT_FALSE(Programs::uninstall(directory).ok());
  EXPECT_EQ(rmdir(directory), 0);
}

TEST_F(Life, LinkOfAnotherCgroupIsReplaced) {
  load_and_attach(node_);
  auto options = node_.options();
  options.pods_cgroup = node_.pods_cgroup() + "/nested";
  ASSERT_EQ(mkdir(options.pods_cgroup.c_str(), 0755), 0);
  auto programs = Programs::load(options);
  ASSERT_TRUE(programs.ok());
  ASSERT_TRUE(programs->attach().ok());
  for (int type : kPodHooks) {
    EXPECT_EQ(Node::attached(node_.pods_cgroup(), type), 0) << type;
    EXPECT_EQ(Node::attached(options.pods_cgroup, type), 1) << type;
  }
}

TEST_F(Life, LinkOfARemovedCgroupIsReplaced) {
  auto options = node_.options();
  options.pods_cgroup = node_.pods_cgroup() + "/short-lived";
  ASSERT_EQ(mkdir(options.pods_cgroup.c_str(), 0755), 0);
  {
    auto programs = Programs::load(options);
    ASSERT_TRUE(programs.ok());
    ASSERT_TRUE(programs->attach().ok());
  }
  ASSERT_EQ(rmdir(options.pods_cgroup.c_str()), 0);
  load_and_attach(node_);
  for (int type : kPodHooks) EXPECT_EQ(Node::attached(node_.pods_cgroup(), type), 1) << type;
}

TEST_F(Life, PinOfAnotherProgramIsReplaced) {
  load_and_attach(node_);
  std::string links = node_.bpf_dir() + "/v1/links/";
  ASSERT_EQ(rename((links + "weir_connect6").c_str(), (links + "weir_connect4").c_str()), 0);
  load_and_attach(node_);
  for (int type : kPodHooks) EXPECT_EQ(Node::attached(node_.pods_cgroup(), type), 1) << type;
}

TEST_F(Life, MapOfAnotherLayoutIsReplaced) {
  load_and_attach(node_);
  std::string pin = node_.bpf_dir() + "/v1/maps/services";
  ASSERT_EQ(unlink(pin.c_str()), 0);
  base::Fd other(bpf_map_create(BPF_MAP_TYPE_HASH, "services", 4, 4, 16, nullptr));
  ASSERT_TRUE(other);
  ASSERT_EQ(bpf_obj_pin(other.get(), pin.c_str()), 0);
  Programs programs = load_and_attach(node_);
  enrol(programs.maps());
  base::Fd listener = listen_as_agent(programs.maps());
  EXPECT_EQ(dial_once(listener), Where::agent);
}

TEST_F(Life, CountsOfPendingRowsBeginAnewAfterProgramsThatKeepNone) {
  Programs programs = load_and_attach(node_);
  set_pending_count(node_.bpf_dir(), 7, 3);
  set_pending_count(node_.bpf_dir(), WEIR_PENDING_SLOTS, 3);
  load_and_attach(node_);
  EXPECT_EQ(pending_count(node_.bpf_dir(), 7), 3);

  // As a version without them: r0 = 1; exit
  const bpf_insn pass[] = {{.code = 0xb7, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 1},
                           {.code = 0x95, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0}};
  base::Fd other(bpf_prog_load(BPF_PROG_TYPE_SOCK_OPS, "weir_sockops", "GPL", pass, 2, nullptr));
  base::Fd link(bpf_obj_get((node_.bpf_dir() + "/v1/links/weir_sockops").c_str()));
  ASSERT_EQ(bpf_link_update(link.get(), other.get(), nullptr), 0);
  load_and_attach(node_);
  EXPECT_EQ(pending_count(node_.bpf_dir(), 7), 0);
  EXPECT_EQ(pending_count(node_.bpf_dir()), 0);
}

TEST_F(Life, GoesBeforeAnotherProductsProgramInTheSameCgroup) {
  // r0 = 1; exit
  const bpf_insn pass[] = {{.code = 0xb7, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 1},
                           {.code = 0x95, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0}};
  bpf_prog_load_opts load{};
  load.sz = sizeof load;
  load.expected_attach_type = BPF_CGROUP_INET4_CONNECT;
  base::Fd stranger(bpf_prog_load(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, "cil_sock4", "GPL", pass, 2, &load));
  ASSERT_TRUE(stranger);
  base::Fd cgroup(open(node_.pods_cgroup().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  base::Fd link(bpf_link_create(stranger.get(), cgroup.get(), BPF_CGROUP_INET4_CONNECT, nullptr));
  ASSERT_TRUE(link);

  auto programs = Programs::load(node_.options());
  ASSERT_TRUE(programs.ok());
  auto attached = programs->attach();
  if (kernel_is_older_than(6, 17)) {
    ASSERT_FALSE(attached.ok());
    EXPECT_THAT(attached.error().message, HasSubstr("another product"));
    return;
  }
  ASSERT_TRUE(attached.ok()) << attached.error().message;
  EXPECT_EQ(names_of_attached(node_.pods_cgroup(), BPF_CGROUP_INET4_CONNECT),
            (std::vector<std::string>{"weir_connect4", "cil_sock4"}));
  EXPECT_EQ(Node::attached(node_.pods_cgroup(), BPF_CGROUP_INET6_CONNECT), 1);
}

TEST_F(Life, ErrorsNameTheRemedy) {
  auto options = node_.options();
  options.bpf_dir = "/tmp/weir-bpf-test";
  auto not_bpffs = Programs::load(options);
  ASSERT_FALSE(not_bpffs.ok());
  EXPECT_THAT(not_bpffs.error().message, HasSubstr("mount -t bpf bpf /tmp"));

  options = node_.options();
  options.pods_cgroup = "/tmp";
  auto programs = Programs::load(options);
  ASSERT_TRUE(programs.ok());
  auto not_cgroup = programs->attach();
  ASSERT_FALSE(not_cgroup.ok());
  EXPECT_THAT(not_cgroup.error().message, HasSubstr("/tmp is not a cgroup v2 folder"));

  auto missing = interception::Maps::open(node_.bpf_dir() + "-none");
  ASSERT_FALSE(missing.ok());
  EXPECT_THAT(missing.error().message, HasSubstr("does not exist"));
}

TEST_F(Life, LoadWithoutCapabilitiesSaysWhatIsNeeded) {
  std::string message = in_unprivileged_child([&] {
    auto programs = Programs::load(node_.options());
    return programs ? std::string("loaded") : programs.error().message;
  });
  EXPECT_THAT(message, HasSubstr("CAP_BPF"));
  EXPECT_THAT(message, HasSubstr("libbpf"));
}

}  // namespace
}  // namespace weir::bpf_test
