/*
 * Counts a process's heap allocations per thread: LD_PRELOAD it with
 * MALLOC_COUNTER_FILE naming a file of at least 64 KiB. The file holds pairs of 64-bit
 * numbers, thread id and allocations so far, one pair a thread, ended by a zero id.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { kBytes = 64 * 1024, kSlots = kBytes / 16 };

struct slot {
	uint64_t thread;
	uint64_t allocations;
};

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

static struct slot *slots;
static _Atomic uint32_t used;
static _Thread_local struct slot *mine __attribute__((tls_model("initial-exec")));

__attribute__((constructor)) static void open_counters(void)
{
	const char *path = getenv("MALLOC_COUNTER_FILE");
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;

	if (fd < 0)
		return;
	void *memory = mmap(NULL, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	close(fd);
	if (memory != MAP_FAILED)
		slots = memory;
}

static void count(void)
{
	if (!slots)
		return;
	if (!mine) {
		uint32_t index = atomic_fetch_add(&used, 1);

		if (index + 1 >= kSlots)
			return;
		mine = &slots[index];
		mine->thread = (uint64_t)syscall(SYS_gettid);
	}
	mine->allocations++;
}

void *malloc(size_t size)
{
	count();
	return __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
	count();
	return __libc_calloc(n, size);
}

void *realloc(void *old, size_t size)
{
	count();
	return __libc_realloc(old, size);
}

void *memalign(size_t alignment, size_t size)
{
	count();
	return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
	count();
	return __libc_memalign(alignment, size);
}

int posix_memalign(void **out, size_t alignment, size_t size)
{
	count();
	void *memory = __libc_memalign(alignment, size);

	if (!memory)
		return ENOMEM;
	*out = memory;
	return 0;
}
