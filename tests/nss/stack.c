/* Looks names and addresses up in a thread with the smallest stack that there is. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <limits.h>
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static void *look(void *argument)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list;
    struct hostent entry, *found;
    char buffer[512];
    int error = getaddrinfo("n23", NULL, &hints, &list);
    if (error) {
        printf("n23: %s\n", gai_strerror(error));
        exit(1);
    }
    error = gethostbyaddr_r(&((struct sockaddr_in *)list->ai_addr)->sin_addr, 4, AF_INET, &entry, buffer, sizeof buffer, &found, &error);
    puts(error || !found ? "no name" : found->h_name);
    return argument;
}

int main(void)
{
    pthread_t thread;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    /* The module is loaded by now, as in a program that has looked a name up before: loading needs more than looking. */
    struct hostent *first = gethostbyname("n0");
    if (!first || pthread_attr_setstacksize(&attributes, PTHREAD_STACK_MIN) || pthread_create(&thread, &attributes, look, NULL))
        return 2;
    pthread_join(thread, NULL);
    return 0;
}
