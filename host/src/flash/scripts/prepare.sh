# Makes the folders and clears away what an interrupted run has left.
# Arguments: the lock's text.
enter
require_lock "$1"
mkdir -p objects incoming releases staging
rm -rf staging/* lock.new.* lock.stale.* ./*.new
flush .
