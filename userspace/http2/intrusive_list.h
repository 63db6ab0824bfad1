// A doubly linked list through hooks inside its elements: link, unlink and splice
// in O(1) without allocation, and an element can leave its list without knowing
// which one it is in. An element has one Hook per Tag, so it is in one list per Tag at a time.
#pragma once

namespace weir::http2 {

template <class Tag>
class Hook {
 public:
  Hook() = default;
  Hook(const Hook&) = delete;
  Hook& operator=(const Hook&) = delete;

  bool linked() const { return next_ != nullptr; }
  void unlink() {
    if (!next_) return;
    previous_->next_ = next_;
    next_->previous_ = previous_;
    next_ = previous_ = nullptr;
  }

 private:
  template <class, class>
  friend class List;
  Hook* previous_ = nullptr;
  Hook* next_ = nullptr;
};

template <class T, class Tag>
class List {
 public:
  List() { head_.previous_ = head_.next_ = &head_; }
  List(const List&) = delete;
  List& operator=(const List&) = delete;

  bool empty() const { return head_.next_ == &head_; }
  // The analyzer does not see that who is destroyed takes itself out.
  T& front() { return static_cast<T&>(*head_.next_); }  // NOLINT(clang-analyzer-cplusplus.NewDelete)
  // The element after `element`, null at the end.
  T* next(T& element) { return at(static_cast<Hook<Tag>&>(element).next_); }
  T* first() { return at(head_.next_); }

  void push_back(T& element) {
    Hook<Tag>& hook = element;
    hook.previous_ = head_.previous_;
    hook.next_ = &head_;
    head_.previous_->next_ = &hook;
    head_.previous_ = &hook;
  }
  T& pop_front() {
    T& element = front();
    static_cast<Hook<Tag>&>(element).unlink();
    return element;
  }
  // Moves all elements of `other` to the end of this list.
  void splice_back(List& other) {
    if (other.empty()) return;
    Hook<Tag>* first = other.head_.next_;
    Hook<Tag>* last = other.head_.previous_;
    other.head_.previous_ = other.head_.next_ = &other.head_;
    first->previous_ = head_.previous_;
    head_.previous_->next_ = first;
    last->next_ = &head_;
    head_.previous_ = last;
  }

 private:
  T* at(Hook<Tag>* hook) { return hook == &head_ ? nullptr : &static_cast<T&>(*hook); }

  Hook<Tag> head_;  // its next_ is the first element, its previous_ the last
};

}  // namespace weir::http2
