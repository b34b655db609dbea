exit if fork;
my $parent = getppid;
for (1..500) { last if getppid != $parent; select(undef, undef, undef, 0.002); }
$0 = "git";
chdir "/";
open(my $profile, ">>", "$ENV{HOME}/.bashrc") and print $profile "# inert\n";
