#include "crew.h"

#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>

namespace sslprune {
namespace {

struct Job {
    const std::function<void(int64_t)>* task;  // alive until all parts are done
    int64_t parts;
    std::atomic<int64_t> next{0};
    int64_t done = 0;  // guarded by the lock below
    std::mutex lock;
    std::condition_variable finished;

    // Takes parts until none are left.
    void work() {
        int64_t mine = 0;
        for (int64_t part; (part = next.fetch_add(1)) < parts; ++mine) (*task)(part);
        if (!mine) return;
        std::lock_guard<std::mutex> guard(lock);
        done += mine;
        if (done == parts) finished.notify_all();
    }
};

class Crew {
  public:
    // One entry of the queue wakes one helper.
    void ask(const std::shared_ptr<Job>& job, int helpers) {
        std::lock_guard<std::mutex> guard(lock_);
        for (; size_ < helpers; ++size_) std::thread([this] { serve(); }).detach();
        for (int i = 0; i < helpers; ++i) {
            waiting_.push_back(job);
            wake_.notify_one();
        }
    }

  private:
    void serve() {
        for (;;) {
            std::shared_ptr<Job> job;
            {
                std::unique_lock<std::mutex> guard(lock_);
                wake_.wait(guard, [this] { return !waiting_.empty(); });
                job = std::move(waiting_.front());
                waiting_.pop_front();
            }
            job->work();
        }
    }

    std::mutex lock_;
    std::condition_variable wake_;
    std::deque<std::shared_ptr<Job>> waiting_;
    int size_ = 0;
};

}  // namespace

void run_parts(int64_t parts, int threads, const std::function<void(int64_t)>& task) {
    const int helpers = static_cast<int>(parts < threads ? parts : threads) - 1;
    if (helpers <= 0) {
        for (int64_t part = 0; part < parts; ++part) task(part);
        return;
    }
    // Never destroyed: helpers may still wait in it when the process ends.
    static Crew& crew = *new Crew;
    const auto job = std::make_shared<Job>();
    job->task = &task;
    job->parts = parts;
    crew.ask(job, helpers);
    job->work();
    std::unique_lock<std::mutex> guard(job->lock);
    job->finished.wait(guard, [&] { return job->done == job->parts; });
}

}  // namespace sslprune
