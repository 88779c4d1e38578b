// Executes the command, which is looked for as execvp does.
#include "plan.h"

static const char *variable(const char *name)
{
	for (char **e = the_env; *e; e++)
		if (has_prefix(*e, name))
			return *e + strlen(name);
	return 0;
}

static long execute_file(const char *path)
{
	long err = SYS(execve, path, the_argv, the_env);
	if (err != -ENOEXEC)
		return err;
	u32 n = 0; // a script without #! is one for sh, as with execvp
	while (the_argv[n])
		n++;
	char **argv = alloc(sizeof(char *) * (n + 3));
	argv[0] = "/bin/sh";
	argv[1] = (char *)path;
	for (u32 i = 1; i <= n; i++)
		argv[i + 1] = the_argv[i];
	return SYS(execve, "/bin/sh", argv, the_env);
}

long execute(const char *name)
{
	if (!*name)
		return -ENOENT;
	for (const char *p = name; *p; p++)
		if (*p == '/')
			return execute_file(name);
	const char *path = variable("PATH=");
	if (!path)
		path = "/bin:/usr/bin";
	long result = -ENOENT;
	for (;;) {
		const char *end = path;
		while (*end && *end != ':')
			end++;
		char *dir = join(path, "", "");
		dir[end - path] = 0;
		long err = execute_file(*dir ? join(dir, "/", name) : name);
		if (err == -EACCES)
			result = err;
		else if (err != -ENOENT && err != -ESTALE && err != -ENOTDIR && err != -ENODEV && err != -ETIMEDOUT)
			return err;
		if (!*end)
			return result;
		path = end + 1;
	}
}
