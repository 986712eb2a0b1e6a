# Inside the head: makes users, writes what is configured, brings up all services and the machines that are always on, and stays.
set -e
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mkdir -p /run/sshd /run/munge /run/cgroup /var/spool/slurmctld /etc/slurm /etc/munge
. /engine/settings
for user in $USERS; do id "$user" >/dev/null 2>&1 || useradd -m -b /srv -s /bin/bash -p '*' "$user"; done
cp /engine/hosts /etc/hosts
for file in slurm.conf gres.conf cgroup.conf slurmdbd.conf jwt.key; do install -m 644 "/engine/$file" "/etc/slurm/$file"; done
install -m 600 /engine/slurmdbd.conf /etc/slurm/slurmdbd.conf
install -m 600 /engine/jwt.key /etc/slurm/jwt.key
install -m 400 /engine/munge.key /etc/munge/munge.key
rm -rf /etc/ssh/sshd_config.d
# There is no fabric but the network of the cluster; what looks for others may crash here.
mkdir -p /etc/openmpi
printf 'pml = ob1\nbtl = tcp,self\nbtl_tcp_if_include = eth0\noob_tcp_if_include = eth0\n' >/etc/openmpi/openmpi-mca-params.conf
mkdir -p /srv/small
mount -t tmpfs -o size=80m,mode=1777 tmpfs /srv/small # soon full
for gpu in 0 1; do [ -e /engine/gpu$gpu ] || mknod /engine/gpu$gpu c 1 3; done

ip link set lo up
ip link add cluster type bridge
ip addr add "$HEAD/24" dev cluster
ip link set cluster up

munged --force --key-file=/etc/munge/munge.key --socket=/run/munge/munge.socket.2 --log-file=/run/munge/log --seed-file=/run/munge/seed --pid-file=/run/munge/pid
/usr/sbin/sshd -f /engine/sshd_config -E /engine/sshd.log

if [ -d /engine-database ]; then # where accounts are kept
  mkdir -p /run/mysqld
  mariadbd --no-defaults --user=root --datadir=/engine-database --socket=/run/mysqld/socket --pid-file=/run/mysqld/pid --bind-address=127.0.0.1 \
    --innodb-buffer-pool-size=32M --innodb-flush-log-at-trx-commit=0 --innodb-lock-wait-timeout=900 --performance-schema=OFF >/var/log/mariadbd.log 2>&1 </dev/null &
  for try in $(seq 600); do mariadb-admin --no-defaults -S /run/mysqld/socket ping >/dev/null 2>&1 && break; sleep 0.1; done
  slurmdbd
  for try in $(seq 600); do sacctmgr -n -i list cluster >/dev/null 2>&1 && break; sleep 0.1; done
  sacctmgr -i add cluster stellwerk >/dev/null 2>&1 || true
fi
slurmctld
for try in $(seq 300); do scontrol ping 2>/dev/null | grep -q 'is UP' && break; sleep 0.1; done
if [ -d /engine-database ]; then
  sacctmgr -i add account team >/dev/null 2>&1 || true
  sacctmgr -i add user chief account=team adminlevel=admin >/dev/null 2>&1 || true
  sacctmgr -i modify user chief set adminlevel=admin >/dev/null 2>&1 || true
fi
for node in $NODES; do /engine/node.sh up "$node"; done
[ -d /engine-database ] || without='-s slurmctld' # a later one does not start with what asks for accounts
setsid runuser -u nobody -- env SLURM_JWT=daemon slurmrestd -a rest_auth/jwt $without ":$REST" >/var/log/slurmrestd.log 2>&1 </dev/null &
while :; do sleep 3600 & wait $!; done
