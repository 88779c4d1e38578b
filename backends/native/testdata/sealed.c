// Tries what would lead out of a command without a network of its own.
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static void say(const char *what, long result)
{
	printf("%s: %s\n", what, result >= 0 ? "made" : errno == EPERM ? "refused" : "failed");
}

int main(void)
{
	int pair[2];
	say("inet", socket(AF_INET, SOCK_STREAM, 0));
	say("unix", socket(AF_UNIX, SOCK_DGRAM, 0));
	say("netlink", socket(AF_NETLINK, SOCK_RAW, 0));
	say("pair of datagrams", socketpair(AF_UNIX, SOCK_DGRAM, 0, pair)); // can be connected elsewhere
	say("pair of streams", socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
#ifdef __x86_64__
	static const int numbers[] = {359, 360, 102}; // socket, socketpair, socketcall of 32-bit programs
	for (int i = 0; i < 3; i++) {
		long result;
		__asm__ volatile("int $0x80" : "=a"(result) : "a"(numbers[i]), "b"(1), "c"(2), "d"(0), "S"(0) : "memory", "r8", "r9", "r10", "r11");
		// A kernel without them says ENOSYS.
		printf("32-bit %d: %s\n", numbers[i], result >= 0 ? "made" : result == -EPERM || result == -ENOSYS ? "refused" : "failed");
	}
#endif
	return 0;
}
