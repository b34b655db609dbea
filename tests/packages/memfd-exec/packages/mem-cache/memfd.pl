# Inert: copies /bin/true into memory and runs it from there.
use strict;
my $name = "cache";
my $fd = syscall(319, $name, 0);
die "memfd_create: $!" if $fd < 0;
open(my $in, '<:raw', '/bin/true') or die;
open(my $out, '>&=', $fd) or die;
while (sysread($in, my $bytes, 65536)) { syswrite($out, $bytes); }
exec("/proc/self/fd/$fd") or exec("/proc/$$/fd/$fd");
