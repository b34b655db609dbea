# Inert: a program that may be run and not read makes its process unreadable; here it is a copy of true.
cp /bin/true ./sealed && chmod 0111 ./sealed && ./sealed
true
