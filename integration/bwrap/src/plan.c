// Reads the plan, and what it names: strings, the environment, filters.
#include "plan.h"

struct plan *the_plan;
char **the_argv, **the_env;
struct op *the_ops;
u32 op_count;

u32 env_count, lock_count;
char **locks;
u64 caps;

static struct filter {
	struct sock_fprog program;
} *filters;
static u32 filter_count;

void must(long err, const char *what)
{
	if (err < 0)
		die(err, what);
}

const char *str(u32 place)
{
	return (const char *)the_plan + the_plan->text + place;
}

static const u32 *read_strings(const u32 *w, char ***list, u32 *count)
{
	*count = *w++;
	char **p = *list = alloc(sizeof(char *) * (*count + 2));
	for (u32 i = 0; i < *count; i++)
		*p++ = (char *)str(*w++);
	*p = 0;
	return w;
}

void read_plan(const char *number)
{
	s32 fd = 0;
	for (; *number; number++)
		fd = 10 * fd + *number - '0';
	long size = SYS(lseek, fd, 0, 2);
	if (size < (long)sizeof(struct plan))
		die(0, "started by sbx-action, not by hand");
	long at = sys6(SYS_mmap, 0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	if (at < 0 && at > -4096)
		die(at, "Can't read the plan");
	SYS(close, fd);
	the_plan = (struct plan *)at;
	if (the_plan->version != PLAN_VERSION)
		die(0, "the plan is one of another version");
	const u32 *w = (u32 *)(the_plan + 1);
	u32 argc;
	w = read_strings(w, &the_argv, &argc);
	w = read_strings(w, &the_env, &env_count);
	w = read_strings(w, &locks, &lock_count);
	filter_count = *w++;
	filters = alloc(sizeof *filters * (filter_count + 1));
	for (u32 i = 0; i < filter_count; i++, w += 2) {
		filters[i].program.len = (u16)w[0];
		filters[i].program.filter = (struct sock_filter *)str(w[1]);
	}
	op_count = *w++;
	the_ops = (struct op *)w;
	caps = the_plan->caps_low | (u64)the_plan->caps_high << 32;
}

void read_filter(void)
{
	if (the_plan->seccomp_fd < 0)
		return;
	enum { MOST = 65536 * 8 };
	char *buf = alloc(MOST);
	long size = 0, n;
	while ((n = SYS(read, the_plan->seccomp_fd, buf + size, MOST - size)) != 0) {
		if (n == -EINTR)
			continue;
		must(n, "Can't read seccomp data");
		size += n;
		if (size == MOST)
			break;
	}
	SYS(close, the_plan->seccomp_fd);
	if (size % 8)
		die(0, "Invalid seccomp data, must be multiple of 8");
	filter_count = 1;
	filters[0].program = (struct sock_fprog){(u16)(size / 8), (struct sock_filter *)buf};
}

void apply_filters(void)
{
	for (u32 i = 0; i < filter_count; i++) {
		long err = SYS(prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filters[i].program);
		if (err == -EINVAL)
			die(0, "Unable to set up system call filtering as requested: prctl(PR_SET_SECCOMP) reported EINVAL. (Hint: this requires a kernel configured with CONFIG_SECCOMP and CONFIG_SECCOMP_FILTER.)");
		must(err, "prctl(PR_SET_SECCOMP)");
	}
}
