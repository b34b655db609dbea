# Inert: prctl(PR_SET_DUMPABLE, 0) would make this process unreadable to a watcher; then it reads the bait.
syscall(157, 4, 0, 0, 0, 0);
open(my $key, '<', "$ENV{HOME}/.ssh/id_rsa");
