#include "kubernetes/manifest_directory.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "kubernetes/document.h"
#include "manifests.h"

namespace weir::kubernetes {
namespace {

namespace fs = std::filesystem;
using base::MonotonicClock;
using std::chrono::milliseconds;
using testing::HasSubstr;

std::string service(const std::string& name, int port = 80) {
  return "apiVersion: v1\nkind: Service\nmetadata: {name: " + name +
         "}\nspec: {ports: [{port: " + std::to_string(port) + "}]}\n---\n";
}

class Directory : public testing::Test {
 protected:
  Directory() {
    char name[] = "/tmp/weir-manifests-XXXXXX";
    base_ = mkdtemp(name);
    root_ = base_ / "d";
    fs::create_directory(root_);
    directory_ = std::make_unique<ManifestDirectory>(root_.string(), &store_);
  }
  ~Directory() override {
    std::error_code ignored;
    fs::remove_all(base_, ignored);
  }

  void write(const std::string& file, const std::string& text) {
    std::ofstream(root_ / file, std::ios::binary) << text;
  }
  void load() { ASSERT_TRUE(directory_->load(MonotonicClock::now()).ok()); }

  // Runs the directory as the control thread does until `done`; false after two seconds.
  template <class F>
  bool wait_for(F done, base::Duration patience = std::chrono::seconds(2)) {
    auto limit = MonotonicClock::now() + patience;
    while (!done()) {
      auto now = MonotonicClock::now();
      if (now >= limit) return false;
      auto wake = std::min(limit, directory_->next_deadline().value_or(limit));
      auto wait = std::chrono::duration_cast<milliseconds>(wake - now).count() + 1;
      pollfd fd{directory_->fd(), POLLIN, 0};
      bool readable = ::poll(&fd, 1, static_cast<int>(std::max<int64_t>(wait, 0))) > 0;
      now = MonotonicClock::now();
      changes_ += (readable ? directory_->on_readable(now) : directory_->tick(now)) ? 1 : 0;
    }
    return true;
  }
  void run_for(milliseconds time) {
    wait_for([] { return false; }, time);
  }
  // 0: there is none
  int port(const std::string& name) const {
    const auto object = store_.find({Kind::service, "default", name});
    return object ? std::get<Service>(*object).ports[0].port : 0;
  }
  bool becomes(const std::string& name, int expected) {
    return wait_for([&] { return port(name) == expected; });
  }

  fs::path base_, root_;
  ObjectStore store_;
  std::unique_ptr<ManifestDirectory> directory_;
  int changes_ = 0;
};

TEST_F(Directory, LoadsYamlAndJsonOfAllFolders) {
  write("a.yaml", service("a"));
  write("b.yml", service("b"));
  write("c.json", R"({"apiVersion":"v1","kind":"Service","metadata":{"name":"c"},"spec":{"ports":[{"port":80}]}})");
  fs::create_directories(root_ / "inner/more");
  write("inner/more/d.yaml", service("d"));
  for (const char* ignored : {".hidden.yaml", "e.yaml~", "#f.yaml#", ".#g.yaml", "h.yaml.swp", "README.md", "4913"}) {
    write(ignored, service("ignored"));
  }
  fs::create_directory(root_ / ".git");
  write(".git/x.yaml", service("ignored"));
  fs::create_directory(root_ / "folder.yaml");
  load();
  EXPECT_EQ(store_.size(), 4u);
  EXPECT_EQ(port("a") + port("b") + port("c") + port("d"), 320);
  EXPECT_TRUE(store_.findings().empty()) << codes(store_.findings());
}

TEST_F(Directory, SeesAddedChangedAndRemovedFiles) {
  load();
  EXPECT_EQ(store_.size(), 0u);
  write("a.yaml", service("a", 1));
  EXPECT_TRUE(becomes("a", 1));
  write("a.yaml", service("a", 2));
  EXPECT_TRUE(becomes("a", 2));
  fs::remove(root_ / "a.yaml");
  EXPECT_TRUE(becomes("a", 0));
  EXPECT_EQ(changes_, 3);
}

TEST_F(Directory, SeesAtomicReplacement) {
  write("a.yaml", service("a", 1));
  load();
  for (int i = 2; i < 6; ++i) {
    write(".a.yaml.tmp", service("a", i));
    fs::rename(root_ / ".a.yaml.tmp", root_ / "a.yaml");
    ASSERT_TRUE(becomes("a", i));
  }
}

TEST_F(Directory, SeesARenameToAndFromOtherNames) {
  write("a.yaml", service("a", 1));
  load();
  fs::rename(root_ / "a.yaml", root_ / "a.yaml.off");
  EXPECT_TRUE(becomes("a", 0));
  fs::rename(root_ / "a.yaml.off", root_ / "b.yaml");
  EXPECT_TRUE(becomes("a", 1));
}

TEST_F(Directory, FollowsConfigMapVolumes) {
  auto publish = [&](const std::string& version, int number) {
    fs::create_directory(root_ / version);
    write(version + "/a.yaml", service("a", number));
    fs::create_directory(root_ / version / "sub");
    write(version + "/sub/b.yaml", service("b", number));
    fs::create_directory_symlink(version, root_ / "..data_tmp");
    fs::rename(root_ / "..data_tmp", root_ / "..data");
  };
  publish("..2026_1", 1);
  fs::create_symlink("..data/a.yaml", root_ / "a.yaml");
  fs::create_directory_symlink("..data/sub", root_ / "sub");
  load();
  EXPECT_EQ(port("a"), 1);
  EXPECT_EQ(port("b"), 1);
  for (int i = 2; i < 5; ++i) {
    publish("..2026_" + std::to_string(i), i);
    fs::remove_all(root_ / ("..2026_" + std::to_string(i - 1)));
    ASSERT_TRUE(wait_for([&] { return port("a") == i && port("b") == i; })) << i;
  }
  EXPECT_EQ(store_.size(), 2u);
}

TEST_F(Directory, WatchesFoldersThatAppear) {
  load();
  fs::create_directories(root_ / "x/y");
  write("x/y/a.yaml", service("a", 1));
  EXPECT_TRUE(becomes("a", 1));
  write("x/y/a.yaml", service("a", 2));
  EXPECT_TRUE(becomes("a", 2));
  fs::rename(root_ / "x", root_ / "z");
  write("z/y/a.yaml", service("a", 3));
  EXPECT_TRUE(becomes("a", 3));
  fs::remove_all(root_ / "z");
  EXPECT_TRUE(becomes("a", 0));
}

TEST_F(Directory, LoopsOfLinksEnd) {
  fs::create_directory(root_ / "x");
  fs::create_directory_symlink("..", root_ / "x/up");
  fs::create_directory_symlink(".", root_ / "self");
  fs::create_symlink("nowhere", root_ / "dangling.yaml");
  write("x/a.yaml", service("a", 1));
  load();
  EXPECT_EQ(port("a"), 1);
  EXPECT_EQ(store_.size(), 1u);
  EXPECT_EQ(codes(store_.findings()), "");
  write("b.yaml", service("b", 1));
  EXPECT_TRUE(becomes("b", 1)) << "the root is watched in spite of the links to it";
}

TEST_F(Directory, AFolderTooDeepIsReportedAndTheRestWorks) {
  fs::create_directories(root_ / "1/2/3/4/5/6/7/8/9");
  write("1/2/3/4/5/6/7/8/9/deep.yaml", service("deep"));
  write("a.yaml", service("a"));
  load();
  EXPECT_EQ(port("deep"), 0);
  EXPECT_EQ(codes(store_.findings()), "WEIR0005");
  fs::remove(root_ / "a.yaml");
  EXPECT_TRUE(becomes("a", 0));
}

TEST_F(Directory, AMalformedFileKeepsItsObjects) {
  write("a.yaml", service("a", 1) + service("b", 1));
  write("other.yaml", service("c", 1));
  load();
  write("a.yaml", "apiVersion: v1\nkind: [\n");
  write("other.yaml", service("c", 2));
  EXPECT_TRUE(wait_for([&] { return codes(store_.findings()) == "WEIR0004" && port("c") == 2; }));
  EXPECT_EQ(port("a") + port("b"), 2);
  write("a.yaml", service("a", 3));
  EXPECT_TRUE(becomes("a", 3));
  EXPECT_EQ(port("b"), 0);
  EXPECT_EQ(codes(store_.findings()), "");
}

TEST_F(Directory, ATooLargeFileIsRefused) {
  write("a.yaml", service("a", 1));
  load();
  write("a.yaml", service("a", 2) + "# " + std::string(10'000'000, 'x') + "\n");
  EXPECT_TRUE(wait_for([&] { return codes(store_.findings()) == "WEIR0003"; }));
  EXPECT_EQ(port("a"), 1);
  EXPECT_THAT(store_.findings()[0].file, HasSubstr("a.yaml"));
  const auto size = fs::file_size(root_ / "a.yaml");
  EXPECT_THAT(store_.findings()[0].message, HasSubstr("the file has " + std::to_string(size) + " bytes"));
  write("a.yaml", service("a", 3));
  EXPECT_TRUE(becomes("a", 3));
  EXPECT_EQ(codes(store_.findings()), "");
}

TEST_F(Directory, AFifoOrADeviceHoldsNothingUp) {
  ASSERT_EQ(mkfifo((root_ / "fifo.yaml").c_str(), 0600), 0);
  fs::create_symlink("/dev/zero", root_ / "zero.yaml");
  write("a.yaml", service("a"));
  load();
  EXPECT_EQ(port("a"), 80);
  EXPECT_EQ(codes(store_.findings()), "WEIR0002 WEIR0002");
}

TEST_F(Directory, AVanishedDirectoryKeepsEverythingUntilItIsBack) {
  write("a.yaml", service("a", 1));
  load();
  fs::rename(root_, base_ / "away");
  EXPECT_TRUE(wait_for([&] { return codes(store_.findings()) == "WEIR0001"; }));
  EXPECT_EQ(port("a"), 1);
  EXPECT_EQ(store_.findings()[0].file, root_.string());
  run_for(milliseconds(100));
  EXPECT_EQ(port("a"), 1);
  fs::rename(base_ / "away", root_);
  write("a.yaml", service("a", 2));
  EXPECT_TRUE(becomes("a", 2));
  EXPECT_EQ(codes(store_.findings()), "");
  fs::remove_all(root_);
  EXPECT_TRUE(wait_for([&] { return codes(store_.findings()) == "WEIR0001"; }));
  EXPECT_EQ(port("a"), 2);
  fs::create_directory(root_);
  EXPECT_TRUE(becomes("a", 0)) << "it is back, and empty";
  write("b.yaml", service("b", 1));
  EXPECT_TRUE(becomes("b", 1)) << "the new directory is watched";
}

TEST_F(Directory, MayBeMissingAtFirst) {
  fs::remove(root_);
  auto loaded = directory_->load(MonotonicClock::now());
  ASSERT_FALSE(loaded.ok());
  EXPECT_THAT(loaded.error().message, HasSubstr(root_.string()));
  EXPECT_EQ(codes(store_.findings()), "WEIR0001");
  fs::create_directory(root_);
  write("a.yaml", service("a", 1));
  EXPECT_TRUE(becomes("a", 1));
  EXPECT_EQ(codes(store_.findings()), "");
}

TEST_F(Directory, MayBeAFile) {
  fs::remove(root_);
  std::ofstream(root_.string()) << "x";
  EXPECT_FALSE(directory_->load(MonotonicClock::now()).ok());
}

TEST_F(Directory, ManyEventsAreOneChange) {
  load();
  for (int i = 0; i < 50; ++i) write("f" + std::to_string(i) + ".yaml", service("s" + std::to_string(i)));
  EXPECT_TRUE(wait_for([&] { return store_.size() == 50; }));
  EXPECT_EQ(changes_, 1);
  run_for(milliseconds(150));
  EXPECT_EQ(changes_, 1) << "reading the files is no change";
}

TEST_F(Directory, WaitsForAWriterToFinish) {
  write("a.yaml", service("a", 1) + service("b", 1));
  load();
  std::ofstream slow(root_ / "a.yaml", std::ios::binary);  // truncates
  slow << service("a", 2) << std::flush;
  write("c.yaml", service("c", 1));  // wakes the directory meanwhile
  ASSERT_TRUE(wait_for([&] {
    slow << "# still writing\n" << std::flush;
    return port("c") == 1;
  }));
  EXPECT_EQ(port("b"), 1) << "a half-written file must not remove objects";
  EXPECT_EQ(port("a"), 1);
  slow << service("b", 2);
  slow.close();
  EXPECT_TRUE(wait_for([&] { return port("a") == 2 && port("b") == 2; }));
}

TEST_F(Directory, AnObjectThatMovesToAnotherFileIsNeverMissing) {
  write("a.yaml", service("a", 1));
  load();
  fs::create_directory(base_ / "new");
  for (int i = 2; i < 5; ++i) {
    std::string file = "moved" + std::to_string(i) + ".yaml";
    std::ofstream(base_ / "new" / file) << service("a", i);
    fs::create_symlink(base_ / "new" / file, root_ / file);  // a fresh file without a closing event
    for (const auto& entry : fs::directory_iterator(root_)) {
      if (entry.path().filename() != file) fs::remove(entry.path());
    }
    ASSERT_TRUE(wait_for([&] {
      EXPECT_NE(port("a"), 0);
      return port("a") == i;
    }));
  }
}

TEST_F(Directory, AFileThatIsAlwaysWrittenDoesNotHoldUpRemovals) {
  write("a.yaml", service("a", 1));
  load();
  std::ofstream endless(root_ / "endless.yaml", std::ios::binary);
  fs::remove(root_ / "a.yaml");
  auto end = MonotonicClock::now() + std::chrono::seconds(3);
  while (port("a") != 0 && MonotonicClock::now() < end) {
    endless << "# more\n" << std::flush;
    run_for(milliseconds(20));
  }
  EXPECT_EQ(port("a"), 0);
}

TEST_F(Directory, AConstantStreamOfEventsDoesNotHoldItUp) {
  load();
  write("a.yaml", service("a", 1));
  auto end = MonotonicClock::now() + milliseconds(600);
  while (port("a") == 0 && MonotonicClock::now() < end) {
    write(".noise", "x");
    pollfd fd{directory_->fd(), POLLIN, 0};
    ::poll(&fd, 1, 5);
    directory_->on_readable(MonotonicClock::now());
  }
  EXPECT_EQ(port("a"), 1);
}

}  // namespace
}  // namespace weir::kubernetes
