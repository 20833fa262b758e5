/* Echoes datagrams, and loads what echoes them: a load that costs less than what it loads, which Python's would not.
 *
 *     udpload echo PORT                                  sends back what it gets, until it is killed
 *     udpload load PORT SECONDS SIZE SOCKETS WINDOW      prints how many came back, and how many were lost
 *     udpload once PORT SECONDS SIZE SOCKETS             the same with a new socket for each datagram
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 64, SIZE = 65536, SOCKETS = 1024 };

static char buffers[MOST][SIZE];
static struct iovec vectors[MOST];
static struct mmsghdr messages[MOST];
static struct sockaddr_in peers[MOST];

static double now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec + ts.tv_nsec / 1e9;
}

static int open_socket(int port, int bound)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_DGRAM, 0), room = 4 << 20;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    if ((bound ? bind : connect)(fd, (struct sockaddr *)&address, sizeof address)) {
        perror("udpload");
        exit(1);
    }
    return fd;
}

static void prepare(int with_peers)
{
    for (int i = 0; i < MOST; i++) {
        vectors[i] = (struct iovec){buffers[i], SIZE};
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &vectors[i], .msg_iovlen = 1};
        if (with_peers)
            messages[i].msg_hdr.msg_name = &peers[i];
    }
}

static void echo(int port)
{
    int fd = open_socket(port, 1);
    prepare(1);
    for (;;) {
        for (int i = 0; i < MOST; i++) {
            vectors[i].iov_len = SIZE;
            messages[i].msg_hdr.msg_namelen = sizeof peers[i];
        }
        int got = recvmmsg(fd, messages, MOST, MSG_WAITFORONE, NULL);
        for (int i = 0; i < got; i++)
            vectors[i].iov_len = messages[i].msg_len;
        for (int sent = 0; sent < got;) {
            int more = sendmmsg(fd, messages + sent, got - sent, 0);
            sent += more > 0 ? more : 1;
        }
    }
}

static int load(int port, double seconds, int size, int sockets, int window)
{
    static int fds[SOCKETS], flying[SOCKETS];
    static double heard[SOCKETS];
    int poll = epoll_create1(0);
    long received = 0, lost = 0;
    double began = now(), end = began + seconds, looked = began;
    prepare(0);
    for (int i = 0; i < sockets; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
        fds[i] = open_socket(port, 0);
        epoll_ctl(poll, EPOLL_CTL_ADD, fds[i], &event);
        heard[i] = began - 1;
    }
    for (double time = began; time < end; time = now()) {
        struct epoll_event events[SOCKETS];
        int ready = epoll_wait(poll, events, SOCKETS, 20);
        for (int r = 0; r < ready; r++) {
            int i = events[r].data.u32;
            for (int m = 0; m < MOST; m++)
                vectors[m].iov_len = SIZE;
            int got = recvmmsg(fds[i], messages, window < MOST ? window : MOST, MSG_DONTWAIT, NULL);
            if (got <= 0)
                continue;
            for (int m = 0; m < got; m++)
                vectors[m].iov_len = size;
            received += got;
            heard[i] = time;
            sendmmsg(fds[i], messages, got, 0);
        }
        if (time - looked < 0.02 && received)
            continue;
        looked = time;
        for (int i = 0; i < sockets; i++) /* those of which nothing has come for long are lost: begin anew */
            if (time - heard[i] > 0.2) {
                lost += flying[i];
                flying[i] = window;
                heard[i] = time;
                for (int m = 0; m < window; m++)
                    send(fds[i], buffers[0], size, MSG_DONTWAIT);
            }
    }
    printf("%.0f %ld\n", received / (now() - began), lost);
    return 0;
}

static int once(int port, double seconds, int size, int sockets)
{
    static int fds[SOCKETS];
    static double since[SOCKETS];
    int poll = epoll_create1(0);
    long received = 0, lost = 0;
    double began = now(), end = began + seconds;
    for (double time = began; time < end; time = now()) {
        for (int i = 0; i < sockets; i++) {
            if (fds[i] && time - since[i] > 0.5) {
                lost++;
                close(fds[i]);
                fds[i] = 0;
            }
            if (!fds[i]) {
                struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
                fds[i] = open_socket(port, 0);
                epoll_ctl(poll, EPOLL_CTL_ADD, fds[i], &event);
                since[i] = time;
                send(fds[i], buffers[0], size, 0);
            }
        }
        struct epoll_event events[SOCKETS];
        int ready = epoll_wait(poll, events, SOCKETS, 20);
        for (int r = 0; r < ready; r++) {
            int i = events[r].data.u32;
            if (recv(fds[i], buffers[1], SIZE, MSG_DONTWAIT) >= 0)
                received++;
            close(fds[i]);
            fds[i] = 0;
        }
    }
    printf("%.0f %ld\n", received / (now() - began), lost);
    return 0;
}

int main(int count, char **words)
{
    if (count == 3 && !strcmp(words[1], "echo"))
        echo(atoi(words[2]));
    if (count == 7 && !strcmp(words[1], "load") && atoi(words[5]) <= SOCKETS && atoi(words[6]) <= MOST)
        return load(atoi(words[2]), atof(words[3]), atoi(words[4]), atoi(words[5]), atoi(words[6]));
    if (count == 6 && !strcmp(words[1], "once") && atoi(words[5]) <= SOCKETS)
        return once(atoi(words[2]), atof(words[3]), atoi(words[4]), atoi(words[5]));
    fprintf(stderr, "udpload: echo PORT | load PORT SECONDS SIZE SOCKETS WINDOW | once PORT SECONDS SIZE SOCKETS\n");
    return 2;
}
