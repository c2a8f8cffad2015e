#!/bin/sh
# A launcher as some agents have it: runs its arguments as a child, and does not forward signals.
trap '' HUP INT TERM
# A command in the background would read from /dev/null.
exec 3<&0
"$@" <&3 3<&- &
exec 3<&-
wait $!
