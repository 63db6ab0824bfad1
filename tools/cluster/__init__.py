"""A Kubernetes node of real components on this machine: etcd, the control plane, CoreDNS, containerd, kubelet, kube-proxy.

    tools/cluster/up               Ready in some ten seconds
    tools/cluster/enter COMMAND    e.g. kubectl get pods --all-namespaces
    tools/cluster/down             leaves nothing behind

The node has network and mount namespaces of its own, and with them /run, /var/lib, /var/log and /sys/fs/bpf; pids and cgroups
are the machine's. Pods appear below /kubepods, so that there is one such node a machine.
"""
