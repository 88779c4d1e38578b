// Whether Landlock may keep this process from files that a hit has only looked at.

// restricted says whether this process is in a domain of Landlock's, of which nobody can
// be asked. But there are at most sixteen of them, one in another, so a process of ours
// can only enter that many if it was in none. Who entered one without privileges cannot
// get new ones either, and that can be asked: all others pay for one system call.
static int restricted(void)
{
	if (sys(NR_prctl, 39 /* PR_GET_NO_NEW_PRIVS */, 0, 0, 0, 0) != 1)
		return 0;
	i64 pid = call6(NR_clone, 0, 0, 0, 0, 0, 0);
	if (pid == 0) {
		u64 handled = 1; // LANDLOCK_ACCESS_FS_EXECUTE
		i64 rules = sys(444 /* landlock_create_ruleset */, P(&handled), sizeof handled, 0, 0, 0);
		i64 entered = 0;
		while (entered < 16 && rules >= 0 && sys(446 /* landlock_restrict_self */, rules, 0, 0, 0, 0) == 0)
			entered++;
		// ENOSYS, or EOPNOTSUPP: nobody can be in one.
		sys(NR_exit_group, !(entered == 16 || rules == -38 || rules == -95), 0, 0, 0, 0);
	}
	int status = 1;
	return pid < 0 || sys(NR_wait4, pid, P(&status), 0x40000000 /* __WALL */, 0, 0) != pid || status;
}
